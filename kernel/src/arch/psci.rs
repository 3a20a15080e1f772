//! PSCI, by the crate `smccc` and the conduit that the device tree names.

use super::device_tree::Conduit;
use smccc::{Hvc, Smc, psci};

pub(super) use psci::Error;

/// Turns on the CPU with the affinity `cpu`: it enters at the physical address `entry` with `context`
/// in x0, at the exception level at which the boot CPU entered, with the MMU off.
pub(super) fn cpu_on(conduit: Conduit, cpu: u64, entry: u64, context: u64) -> Result<(), Error> {
    match conduit {
        Conduit::Hvc => psci::cpu_on::<Hvc>(cpu, entry, context),
        Conduit::Smc => psci::cpu_on::<Smc>(cpu, entry, context),
    }
}
