//! `boot`: what the boot took, up to the moment at which the tour would begin, and the metadata of a
//! page.

use super::{
    meter::{Cost, Measured},
    parameters::Values,
    report::Line,
};
use crate::{mm::page_alloc, trace::Counts};

/// `boot`. The counter began at reset, and was read before anything else was done.
pub(super) fn boot(values: &Values, instructions: u64) -> Measured<()> {
    let counts = Counts::now();
    let cost = Cost {
        rounds: 1,
        instructions,
        dsb: counts.dsb as u64,
        isb: counts.isb as u64,
        tlbi: counts.tlbi as u64,
    };
    Line {
        case: "boot",
        size: None,
        memory: values.memory,
    }
    .with_metadata(
        cost,
        page_alloc::metadata_bytes(),
        page_alloc::stats().managed,
    );
    Ok(())
}
