"""What do the web pages say in each language? A file beside this one for each file of `words/`."""
