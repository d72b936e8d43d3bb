"""Virtual machines in OVA archives and OVF packages on web servers. Nothing here touches a file of ours."""
