"""A real OpenStack, release Zed, from Debian's packages, on loopback. Begin with `cloud.OpenStackCloud`.

Real: Keystone, Glance, Cinder, Nova, Placement, Neutron, MariaDB, RabbitMQ. Ours, because a test machine has
neither hypervisor nor storage nor switches: the two drivers in `drivers/` and one row about a network agent.
"""
