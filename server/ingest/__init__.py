"""From a source's bytes to one transaction: the stream's reader, and what it must know."""
