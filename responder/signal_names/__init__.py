"""What are signals called in each language? A file beside this one for each file of `words/`."""
