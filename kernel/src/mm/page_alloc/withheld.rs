//! Pages put out of reach, for tests that run out of them.

use super::{OutOfMemory, list::Chain, memory};

/// Pages that nobody is given for as long as this lives.
///
/// Nobody uses them either: so none is made ready for a user, no hook is called and no oracle is told.
/// To have DEBUG_PAGEALLOC map and unmap all of a machine would take longer than the test.
#[derive(Debug)]
#[must_use = "they are given back when this is dropped"]
pub struct Withheld(Chain);

/// Withholds `count` single pages.
///
/// # Errors
/// [`OutOfMemory`] where there are fewer; none is withheld.
pub fn withhold(count: u64) -> Result<Withheld, OutOfMemory> {
    memory::take_list(count).map(Withheld)
}

impl Drop for Withheld {
    fn drop(&mut self) {
        self.0.retire(memory::map(), |_| ());
        memory::give_list(&self.0);
    }
}
