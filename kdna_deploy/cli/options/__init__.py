"""What can be said on the command line: one file a topic, an annotation an option, so that commands share them.

Each is an option's name, its panel on the help page, its metavar, and a sentence that stands alone. What is done with
the values is elsewhere. Imports nothing heavy: ``--help`` is instant.
"""
