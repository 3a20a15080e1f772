//! Tests of the public interface, one module for each module of the crate.

mod addresses;
mod descriptors;
mod esr;
mod live;
mod tlbi;
mod walks;

use proptest::prelude::*;
use vmsa::VirtAddr;

/// How often a property is tried: Miri is some hundred times slower, and has no
/// file system to keep failed cases in.
pub fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Canonical addresses of both halves, the edges more often than chance would have them.
pub fn virtual_address() -> impl Strategy<Value = VirtAddr> {
    let bits = prop_oneof![
        4 => 0..1u64 << 48,
        1 => 0..3 * 4096u64,
        2 => (1u64 << 48) - 3 * 4096..1 << 48,
    ];
    (bits, any::<bool>()).prop_map(|(bits, upper)| {
        let top = if upper { 0xffff << 48 } else { 0 };
        VirtAddr::new(top | bits).expect("both halves are canonical")
    })
}
