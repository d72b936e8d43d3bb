"""vCenter and standalone ESXi. The only importer of `pyVmomi`; none of its exceptions leaves this folder."""
