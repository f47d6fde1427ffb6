"""Images that are made of other images: what lies where, and reading them as one."""
