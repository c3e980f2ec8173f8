"""The second input: images from arrays and folders, their labels, their preparation."""
