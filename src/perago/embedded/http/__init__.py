"""The embedded services over HTTP on loopback (extra `embedded`)."""
