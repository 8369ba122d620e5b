// Package integration is the second test tier: the real dubniumd, modectl and
// dubnium-probe over a simulated workstation, with the real polkitd where it is
// about who may. `make integration` runs it; its build tag keeps it out of the
// first tier.
//
// What the programs claim is never taken for proof of itself: every test that
// changes the workstation asks the workstation what it is (see host).
package integration
