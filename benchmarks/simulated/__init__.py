"""Many workers on the embedded servers in virtual time: `benchmarks.many_hosts` and its test."""
