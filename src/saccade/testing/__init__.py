"""For plug-in authors and our own tests: conformance suites, fake clock, planted bottlenecks."""
