"""The clouds and files that virtual machines come from, behind one protocol (`providers.base.Provider`).

Nothing here knows of Kubernetes, of files on our disk, or of the other packages of this project.
"""
