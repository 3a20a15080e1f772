//! Power, by the firmware's PSCI calls. The kernel's own end is `exit`, which carries a verdict;
//! powering off has none (QEMU ends with status 0), and exists so that the host program can be
//! tested against a kernel that does it.

use super::device_tree::Conduit;
use smccc::{Hvc, Smc, psci};

/// Powers the machine off. Returns only if the firmware refused.
pub fn system_off(conduit: Conduit) -> Result<(), psci::Error> {
    match conduit {
        Conduit::Hvc => psci::system_off::<Hvc>(),
        Conduit::Smc => psci::system_off::<Smc>(),
    }
}
