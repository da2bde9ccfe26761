"""The studio: a local web page over the verbs of the command line. It needs the extra ``studio``."""
