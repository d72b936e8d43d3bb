package main

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// networkSpec describes a network to make (POST /networks).
type networkSpec struct {
	Name       string `json:"name"`
	Datacenter string `json:"datacenter"`
	Switch     string `json:"switch"` // name of a distributed switch, made when missing; empty: a standard port group
}

func (l *lab) makeNetwork(spec *networkSpec) error {
	ctx := adminContext()
	finder := l.finder()
	datacenter, err := finder.Datacenter(ctx, orElse(spec.Datacenter, l.firstDatacenter()))
	if err != nil {
		return err
	}
	finder.SetDatacenter(datacenter)
	hosts, err := finder.HostSystemList(ctx, "*/*")
	if err != nil {
		return err
	}
	if spec.Switch == "" {
		return addPortGroup(ctx, hosts[0], spec.Name)
	}
	dvs, err := l.distributedSwitch(ctx, finder, datacenter, hosts, spec.Switch)
	if err != nil {
		return err
	}
	task, err := dvs.AddPortgroup(ctx, []types.DVPortgroupConfigSpec{{
		Name:     spec.Name,
		Type:     string(types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding),
		NumPorts: 8,
	}})
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func (l *lab) firstDatacenter() string {
	if l.options.ESX {
		return "ha-datacenter"
	}
	if l.options.Folders >= l.options.Datacenters {
		return "/F0/DC0"
	}
	return "DC0"
}

func addPortGroup(ctx context.Context, host *object.HostSystem, name string) error {
	system, err := host.ConfigManager().NetworkSystem(ctx)
	if err != nil {
		return err
	}
	return system.AddPortGroup(ctx, types.HostPortGroupSpec{Name: name, VswitchName: "vSwitch0"})
}

func (l *lab) distributedSwitch(
	ctx context.Context, finder *find.Finder, datacenter *object.Datacenter, hosts []*object.HostSystem, name string,
) (*object.DistributedVirtualSwitch, error) {
	if found, err := finder.Network(ctx, name); err == nil {
		dvs, ok := found.(*object.DistributedVirtualSwitch)
		if !ok {
			return nil, fmt.Errorf("%s is not a distributed switch", name)
		}
		return dvs, nil
	}
	folders, err := datacenter.Folders(ctx)
	if err != nil {
		return nil, err
	}
	config := &types.VMwareDVSConfigSpec{}
	config.Name = name
	task, err := folders.NetworkFolder.CreateDVS(ctx, types.DVSCreateSpec{ConfigSpec: config})
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		return nil, err
	}
	dvs := object.NewDistributedVirtualSwitch(l.client, info.Result.(types.ManagedObjectReference))
	members := &types.DVSConfigSpec{}
	for _, host := range hosts {
		members.Host = append(members.Host, types.DistributedVirtualSwitchHostMemberConfigSpec{
			Operation: string(types.ConfigSpecOperationAdd),
			Host:      host.Reference(),
		})
	}
	if task, err = dvs.Reconfigure(ctx, members); err != nil {
		return nil, err
	}
	return dvs, task.Wait(ctx)
}
