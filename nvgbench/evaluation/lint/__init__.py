"""What is wrong with a set of images before it is scored."""
