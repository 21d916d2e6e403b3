"""The command line: a face of the engine. Rendering is pure, apart from printing."""
