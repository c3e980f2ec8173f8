"""Is a `.pt2` archive one that we could have written? Read field by field, never unpickled."""
