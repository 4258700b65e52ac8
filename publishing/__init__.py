"""Writing the feeds' records into the publisher's repo. The command is `publish_feed.py`."""
