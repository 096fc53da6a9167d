"""Through the command line and the browser, as people use it."""
