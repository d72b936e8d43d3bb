"""OpenStack as a source. The only importer of `openstack`, `keystoneauth1` and `requests`."""
