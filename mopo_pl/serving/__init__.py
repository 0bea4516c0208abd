"""A policy as a service: over HTTP, or in lines of JSON."""
