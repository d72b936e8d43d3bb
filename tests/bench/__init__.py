"""`make bench`: what the product claims about its speed, measured; `make bench ONLY=name` for one."""
