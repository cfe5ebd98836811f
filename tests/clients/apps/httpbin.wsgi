"""httpbin, the application that the test suite of requests talks to."""

from httpbin import app as application  # noqa: F401
