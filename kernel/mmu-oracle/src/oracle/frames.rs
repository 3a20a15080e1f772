//! Frames, tables and addresses that change hands, and the windows in which that is accepted.

use super::Oracle;
use crate::{
    event::{Event, Frames, Window},
    pool::By,
    record::{NewTable, Output, Stamp, frame_key},
    rule::Rule,
    violation::{Past, Violation, What},
};
use vmsa::{Level, PAGE_SIZE, PageRange, PhysAddr};

/// Everything that can lead to a frame.
const OUTPUTS: [Output; 4] = [
    Output::Table,
    Output::Leaf(Level::L1),
    Output::Leaf(Level::L2),
    Output::Leaf(Level::L3),
];

impl Oracle<'_> {
    pub(super) fn frames_allocated(&mut self, event: &Event, frames: Frames) -> Option<Violation> {
        self.reused(event, frames, true)
    }

    pub(super) fn frames_freed(&mut self, event: &Event, frames: Frames) -> Option<Violation> {
        self.forget_new_tables(frames);
        let stale = self.reused(event, frames, false);
        stale.or_else(|| each_frame(frames).find_map(|frame| self.still_mapped(event, frame)))
    }

    pub(super) fn frame_written(&mut self, event: &Event, address: PhysAddr) -> Option<Violation> {
        let first = address.align_down(PAGE_SIZE);
        self.reused(event, Frames { first, count: 1 }, false)
    }

    pub(super) fn table_freed(&mut self, event: &Event, table: PhysAddr) -> Option<Violation> {
        let frames = Frames {
            first: table,
            count: 1,
        };
        self.forget_new_tables(frames);
        let stale = self.reused(event, frames, false);
        stale.or_else(|| {
            let slot = self
                .live
                .find(By::Frame, frame_key(table, Output::Table), None)?;
            Some(self.mapped_violation(event, slot, Rule::TableReuse))
        })
    }

    /// Whether an entry leads to the table.
    pub(super) fn is_linked(&mut self, table: PhysAddr) -> bool {
        let key = frame_key(table, Output::Table);
        self.live.find(By::Frame, key, None).is_some()
    }

    /// A page was zeroed, to become a table.
    pub(super) fn new_table(&mut self, table: PhysAddr, zeroed: Stamp) -> Option<Violation> {
        let slot = self
            .new_tables
            .iter()
            .position(|new| new.is(table))
            .or_else(|| self.new_tables.iter().position(NewTable::is_none));
        match slot {
            Some(slot) => {
                self.new_tables[slot] = NewTable::new(table, zeroed);
                None
            }
            None => self.memory_full(),
        }
    }

    /// These pages are no tables that wait for their link.
    pub(super) fn forget_new_tables(&mut self, frames: Frames) {
        for new in self.new_tables.iter_mut().filter(|new| !new.is_none()) {
            let distance = new.address.checked_sub(frames.first.as_u64());
            if distance.is_some_and(|bytes| bytes / PAGE_SIZE < frames.count) {
                *new = NewTable::NONE;
            }
        }
    }

    /// Looks for stale translations to frames that are about to belong to somebody else. A new owner
    /// who may load as well as store (`loads`) must come after their end with both.
    fn reused(&mut self, event: &Event, frames: Frames, loads: bool) -> Option<Violation> {
        if self.stale.len() == 0 {
            return None;
        }
        for frame in each_frame(frames) {
            for output in OUTPUTS {
                let key = frame_key(frame, output);
                let mut next = self.stale.find(By::Frame, key, None);
                while let Some(slot) = next {
                    next = self.stale.find(By::Frame, key, Some(slot));
                    if self.is_reusable(event.cpu, slot)
                        && (!loads || self.is_before_loads(event.cpu, slot))
                    {
                        continue;
                    }
                    if self.stale.get(slot).in_window() {
                        self.stats.frames_in_window += 1;
                        continue;
                    }
                    let rule = match output {
                        Output::Table => Rule::TableReuse,
                        Output::Leaf(_) => Rule::FrameReuse,
                    };
                    let violation = self.stale_violation(event, slot, rule);
                    self.stale.remove(slot);
                    return Some(violation);
                }
            }
        }
        None
    }

    /// Looks for an entry that maps the frame, outside of the linear map.
    fn still_mapped(&mut self, event: &Event, frame: PhysAddr) -> Option<Violation> {
        for output in OUTPUTS {
            let key = frame_key(frame, output);
            let mut next = self.live.find(By::Frame, key, None);
            while let Some(slot) = next {
                next = self.live.find(By::Frame, key, Some(slot));
                let va = self.live.get(slot).va();
                if !self.linear_map.is_some_and(|range| range.contains(va)) {
                    return Some(self.mapped_violation(event, slot, Rule::MappedFrameFreed));
                }
            }
        }
        None
    }

    /// The violation that a valid entry led to; the entry is forgotten.
    fn mapped_violation(&mut self, event: &Event, slot: usize, rule: Rule) -> Violation {
        let live = self.live.remove(slot);
        Violation::new(rule, event).because(Past::of(
            live.made_valid,
            What::MadeValid(live.va(), live.level(), live.value()),
        ))
    }

    pub(super) fn va_allocated(&mut self, event: &Event, range: PageRange) -> Option<Violation> {
        let cpu = event.cpu;
        let found = self.find_stale_in(range.start(), range.last_byte(), |oracle, slot| {
            !oracle.stale.get(slot).is_table() && !oracle.is_reusable(cpu, slot)
        });
        if let Some(slot) = found {
            let violation = self.stale_violation(event, slot, Rule::VaReuse);
            self.stale.remove(slot);
            return Some(violation);
        }
        // Levels above the last once a block of addresses, the last for each page.
        let mut block = None;
        for va in range.pages_iter() {
            let this = va.align_down(Level::L2.bytes());
            let upper = block.replace(this) != Some(this);
            let levels = [Level::L3, Level::L2, Level::L1];
            for level in &levels[..if upper { 3 } else { 1 }] {
                if let Some(slot) = self.find_live(va, *level, 0)
                    && self.live.get(slot).value().is_leaf(*level)
                {
                    return Some(self.mapped_violation(event, slot, Rule::VaReuse));
                }
            }
        }
        None
    }

    pub(super) fn window_opened(&mut self, window: Window, range: PageRange) {
        self.mark(range, Some(window));
    }

    /// What is left stale when a window closes had to be flushed by then.
    pub(super) fn window_closed(&mut self, event: &Event, range: PageRange) -> Option<Violation> {
        let cpu = event.cpu;
        let found = self.find_stale_in(range.start(), range.last_byte(), |oracle, slot| {
            oracle.stale.get(slot).in_window() && !oracle.is_reusable(cpu, slot)
        });
        let violation = found.map(|slot| {
            let violation = self.stale_violation(event, slot, Rule::Unflushed);
            self.stale.remove(slot);
            violation
        });
        self.forget_flushed(cpu, range);
        self.mark(range, None);
        violation
    }

    /// What the CPU that closes a window knows to be flushed is gone from every TLB. Another CPU may
    /// have the frame by now, and not know of the flush: whatever it does with it comes before the
    /// flush, when the window was open, or after it, when nothing is stale.
    fn forget_flushed(&mut self, cpu: u8, range: PageRange) {
        while let Some(slot) =
            self.find_stale_in(range.start(), range.last_byte(), |oracle, slot| {
                oracle.stale.get(slot).in_window() && oracle.is_reusable(cpu, slot)
            })
        {
            self.stale.remove(slot);
        }
    }

    fn mark(&mut self, range: PageRange, window: Option<Window>) {
        // Never found: each is marked as it is passed.
        let none = self.find_stale_in(range.start(), range.last_byte(), |oracle, slot| {
            if !oracle.stale.get(slot).is_table() {
                oracle.stale.get_mut(slot).set_window(window);
            }
            false
        });
        debug_assert!(none.is_none());
    }
}

fn each_frame(frames: Frames) -> impl Iterator<Item = PhysAddr> {
    (0..frames.count).filter_map(move |n| PhysAddr::new(frames.first.as_u64() + n * PAGE_SIZE))
}
