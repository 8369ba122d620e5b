package probe

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
)

// readHolders adds the holders of the GPUs, and the processes that could not be read.
func (p *Probe) readHolders(ctx context.Context, t topology, pids []int, d *holders.Document) {
	found := p.files.run(ctx, accounts(p.roots.Proc, pids), func(ctx context.Context, turn *turn[openFiles], pids []int) {
		p.readFiles(ctx, t, turn, pids)
	})
	left, denied := map[account][]int{}, map[int]bool{}
	for of, f := range found {
		for _, pid := range f.pids {
			if files := f.results[pid]; !files.all {
				left[of], denied[pid] = append(left[of], pid), files.denied
			}
		}
	}
	d.Unseen, d.MoreUnseen = unseen(p.roots.Proc, left)
	for i := range d.Unseen {
		d.Unseen[i].Denied = denied[d.Unseen[i].PID]
	}
	p.listHolders(t, found, d)
	d.Unreadable = d.MoreUnseen
	for _, u := range d.Unseen {
		d.Unreadable += 1 + u.Truncated
	}
}

// unseen lists a process of each account in left, units before users, and counts the rest.
func unseen(proc string, left map[account][]int) (list []observer.Unseen, more int) {
	for _, of := range slices.SortedFunc(maps.Keys(left), compareAccounts) {
		for i, pid := range left[of] {
			if len(list) == holders.MaxUnseen {
				more += len(left[of])
				break
			}
			if h, exists := identify(proc, pid); exists {
				list = append(list, observer.Unseen{Process: processOf(h), Slices: h.Slices, Truncated: len(left[of]) - i - 1})
				break
			}
		}
	}
	return list, more
}

// holding is a process that has nodes of a GPU open.
type holding struct {
	gpu   string
	pid   int
	nodes []string
}

// listHolders adds the holders. The room of the list is shared among the accounts and GPUs.
func (p *Probe) listHolders(t topology, found map[account]findings[openFiles], d *holders.Document) {
	groups, sizes := map[string][]holding{}, map[string]int{}
	for of, f := range found {
		for _, pid := range slices.Sorted(slices.Values(f.pids)) {
			for _, h := range holdings(t, pid, f.results[pid].nodes) {
				group := string(of) + " " + h.gpu
				groups[group] = append(groups[group], h)
				sizes[group]++
			}
		}
	}
	d.Holders = []observer.Holder{}
	room := share(sizes, holders.MaxHolders)
	for group, held := range groups {
		listed, more := p.nameHolders(held, room[group])
		switch last := len(listed) - 1; {
		case last >= 0:
			listed[last].Truncated = more
		default:
			d.MoreUnseen += more
		}
		d.Holders = append(d.Holders, listed...)
	}
	slices.SortFunc(d.Holders, func(a, b observer.Holder) int {
		return cmp.Or(cmp.Compare(a.GPU, b.GPU), cmp.Compare(a.PID, b.PID))
	})
}

// nameHolders identifies the first holders, as many as there is room for, and counts the rest.
func (p *Probe) nameHolders(held []holding, room int) (listed []observer.Holder, more int) {
	for i, h := range held {
		if len(listed) == room {
			return listed, len(held) - i
		}
		if holder, exists := identify(p.roots.Proc, h.pid); exists {
			holder.GPU, holder.Nodes = h.gpu, h.nodes
			listed = append(listed, holder)
		}
	}
	return listed, 0
}

// holdings lists the GPUs that a process with these open nodes holds.
func holdings(t topology, pid int, open []node) []holding {
	var held []holding
	if len(open) == 0 {
		return nil
	}
	for _, gpu := range t.gpus {
		var names []string
		for _, n := range open {
			if slices.Contains(n.gpus, gpu.PCI) {
				names = append(names, n.name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			held = append(held, holding{gpu.PCI, pid, names})
		}
	}
	return held
}
