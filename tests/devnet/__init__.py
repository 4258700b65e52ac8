"""The official servers (PLC directory, PDS, AppView) on loopback, and the tests by them."""
