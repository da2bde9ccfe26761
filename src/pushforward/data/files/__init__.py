"""Files that hold data: tables, images, and rows with gaps are read, samples are written."""
