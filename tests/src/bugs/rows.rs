//! The gallery as data: each planted bug, and, named before anything is run, where it is looked for
//! and who catches it.

use crate::bugs::complaint::Complaint::{self, Count, Fault, Oracle, Panic, Test};

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As `BUG=` and the kernel know it (`kernel/src/bug.rs`).
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// What it was in Linux, or what keeps it out there; empty where nothing is known.
    pub history: &'static str,
    /// The machine and the options, where they are not the defaults.
    pub options: &'static [(&'static str, &'static str)],
    /// The commands of `autorun=`.
    pub commands: &'static str,
    /// Who catches it.
    pub catcher: Complaint<'static>,
}

/// No option differs from the defaults.
const DEFAULTS: &[(&str, &str)] = &[];
/// A freed area is flushed by the purge alone, so that something can be wrong with that.
const LAZY_PURGE: &[(&str, &str)] = &[("DEBUG_PAGEALLOC", "off")];
/// A CPU without TLBI by range and without level hints.
const PLAIN: &[(&str, &str)] = &[("CPU", "cortex-a57")];
/// One with both.
const MAX: &[(&str, &str)] = &[("CPU", "max")];

/// Every bug, in the order of `kernel/src/bug.rs`.
pub const ROWS: [Row; 43] = [
    Row {
        name: "no-dsb",
        what: "DSB ISHST; ISB without the DSB: a walk need not see the store",
        history: "",
        options: DEFAULTS,
        commands: "tour pause",
        catcher: Oracle("leave-without-barriers"),
    },
    Row {
        name: "no-isb",
        what: "DSB ISHST; ISB without the ISB: the CPU may know the entry as invalid from before",
        history: "24fe1b0efad4 removed the ISBs, d0b7a302d58a put them back",
        options: DEFAULTS,
        commands: "tour pause",
        catcher: Oracle("leave-without-barriers"),
    },
    Row {
        name: "barrier-before-store",
        what: "a store that gets its barriers at once gets them before it is made",
        history: "",
        options: &[("KASAN", "off")],
        commands: "test gallery.a_page_mapped_in_a_pause_is_used_in_it",
        catcher: Oracle("not-visible"),
    },
    Row {
        name: "never-flushed",
        what: "the end of a section makes nothing good of what was put off: here, the stores",
        history: "",
        options: &[("BACKEND", "stores")],
        commands: "tour pause",
        catcher: Fault,
    },
    Row {
        name: "no-inner-flush",
        what: "the end of a nested section makes nothing good",
        history: "why 5ab246749569 calls arch_flush_lazy_mmu_mode() there",
        options: DEFAULTS,
        commands: "test gallery.a_new_page_is_used_in_its_callers_section",
        catcher: Oracle("leave-without-barriers"),
    },
    Row {
        name: "no-resume",
        what: "a return in mid-callback leaves the pause without a resume",
        history: "",
        options: DEFAULTS,
        commands: "vmalloc 4K; vmalloc 4K",
        catcher: Oracle("pause-left"),
    },
    Row {
        name: "no-disable",
        what: "a walk that stops at an error leaves its section open",
        history: "44562c71e2cf, mended by fea18c686320",
        options: DEFAULTS,
        commands: "test gallery.a_walk_that_stops_at_an_error_closes_its_section",
        catcher: Oracle("section-left-open"),
    },
    Row {
        name: "inner-leave-ends",
        what: "the end of a nested section ends the mode for the section around it: safe, and slow",
        history: "1ef3095b1405 (v6.16), until 5ab246749569 (v7.0)",
        options: DEFAULTS,
        commands: "tour history",
        catcher: Count("history"),
    },
    Row {
        name: "no-tlbi-unmap",
        what: "the purge gives addresses back without a TLB flush",
        history: "",
        options: LAZY_PURGE,
        commands: "test gallery.an_area_is_purged",
        catcher: Oracle("unflushed"),
    },
    Row {
        name: "no-tlbi-protect",
        what: "set_memory_ro without a TLB flush: whoever has it in a TLB goes on writing",
        history: "",
        options: DEFAULTS,
        commands: "test set_memory.read_only_in_the_area_and_at_its_alias",
        catcher: Oracle("stale-access"),
    },
    Row {
        name: "tlbi-before-store",
        what: "a page that leaves the linear map is flushed first and cleared afterwards",
        history: "",
        options: DEFAULTS,
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("frame-reuse"),
    },
    Row {
        name: "no-dsb-before-tlbi",
        what: "a TLB flush without its DSB ISHST: the TLBI need not be for the store before it",
        history: "",
        options: DEFAULTS,
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("tlbi-without-dsb-before"),
    },
    Row {
        name: "no-dsb-after-tlbi",
        what: "a TLB flush without its DSB ISH: nobody waits for it",
        history: "",
        options: DEFAULTS,
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("tlbi-without-dsb-after"),
    },
    Row {
        name: "tlbi-unshifted",
        what: "the operand of a TLBI is the address, not its page number",
        history: "",
        options: PLAIN,
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "tlbi-unmasked",
        what: "the sign bits of the address are left in the operand, where TTL and ASID are",
        history: "",
        options: MAX,
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "tlbi-short",
        what: "a range of TLBIs stops a page early",
        history: "",
        options: PLAIN,
        commands: "test gallery.an_area_of_five_pages_is_purged",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "tlbi-range-odd",
        what: "the last page of an odd range is left out: range operations come in pairs of pages",
        history: "",
        options: MAX,
        commands: "test gallery.an_area_of_five_pages_is_purged",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "tlbi-leaf-only",
        what: "a TLBI of last-level entries where a table was removed",
        history: "why __flush_tlb_kernel_pgtable() is there beside flush_tlb_kernel_range()",
        options: DEFAULTS,
        commands: "test huge.an_empty_table_goes_before_a_block_comes",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "table-freed-early",
        what: "a table goes back to the allocator before the TLBI for its link",
        history: "arm64 from 5e5f6dc10546 to 285994a62c80",
        options: DEFAULTS,
        commands: "test huge.an_empty_table_goes_before_a_block_comes",
        catcher: Oracle("table-reuse"),
    },
    Row {
        name: "tlbi-wrong-level",
        what: "a TLBI for pages says that the entries were of level 2",
        history: "why flush_tlb_kernel_range() gives no level",
        options: MAX,
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "frame-freed-early",
        what: "the frames of an area are freed as its leaves are cleared, the flush still to come",
        history: "mremap() until eb66ae030829",
        options: &[("BACKEND", "tlbi")],
        commands: "test gallery.an_area_is_purged",
        catcher: Oracle("frame-reuse"),
    },
    Row {
        name: "va-reused-early",
        what: "the addresses of a freed area do not wait for the purge",
        history: "why vfree() keeps them until __purge_vmap_area_lazy()",
        options: LAZY_PURGE,
        commands: "test gallery.freed_addresses_are_used_again",
        catcher: Oracle("va-reuse"),
    },
    Row {
        name: "shadow-too-far",
        what: "the purge takes shadow away that a neighbour shares",
        history: "why kasan_release_vmalloc() rounds inwards, to the free region",
        options: DEFAULTS,
        commands: "test kasan.a_page_of_shadow_stays_for_its_neighbours",
        catcher: Test("kasan.a_page_of_shadow_stays_for_its_neighbours"),
    },
    Row {
        name: "shadow-left",
        what: "the shadow pages of a purged area are freed and stay mapped",
        history: "",
        options: DEFAULTS,
        commands: "tour pause",
        catcher: Oracle("mapped-frame-freed"),
    },
    Row {
        name: "oa-change",
        what: "an address whose flush is pending gets another frame",
        history: "what pgattr_change_is_safe() refuses",
        options: &[("BACKEND", "tlbi")],
        commands: "test gallery.an_address_gets_another_frame",
        catcher: Oracle("break-before-make"),
    },
    Row {
        name: "split-no-bbm",
        what: "a block is replaced by a table in one store",
        history: "arm64 until ec28bb9c9b08, the other way round: blocks over linked tables",
        options: DEFAULTS,
        commands: "test huge.a_block_is_broken_before_its_table_is_made",
        catcher: Oracle("break-before-make"),
    },
    Row {
        name: "page-left-mapped",
        what: "unmapping an area misses its last page",
        history: "",
        options: DEFAULTS,
        commands: "test gallery.mapped_pages_are_given_back",
        catcher: Oracle("mapped-frame-freed"),
    },
    Row {
        name: "remap-no-barrier",
        what: "a page comes back to the linear map in no section, and is used before its barriers",
        history: "what DEBUG_PAGEALLOC met in zap_pte_range(): 1ef3095b1405",
        options: DEFAULTS,
        commands: "test gallery.a_new_page_is_used_in_its_callers_section",
        catcher: Oracle("not-visible"),
    },
    Row {
        name: "stale-readback",
        what: "an entry is read while a store to it is in the queue",
        history: "kasan's (de)populate until c519c3c0a113",
        options: &[("BACKEND", "stores")],
        commands: "test deferred.a_queued_entry_is_drained_before_it_is_taken",
        catcher: Test("deferred.a_queued_entry_is_drained_before_it_is_taken"),
    },
    Row {
        name: "guard-mapped",
        what: "the guard page of an area is mapped",
        history: "",
        options: DEFAULTS,
        commands: "test vmalloc.a_guard_page_is_behind_every_area",
        catcher: Test("vmalloc.a_guard_page_is_behind_every_area"),
    },
    Row {
        name: "no-cache-sequence",
        what: "a frame becomes executable without the cache sequence for what was written to it",
        history: "",
        options: DEFAULTS,
        commands: "test user.code_is_published_before_it_can_be_executed",
        catcher: Test("user.code_is_published_before_it_can_be_executed"),
    },
    Row {
        name: "late-enter",
        what: "the arch hook enters a CPU that the context switch has entered for the same section",
        history: "291b3abed657, Xen PV in v7.0-rc1 to -rc6",
        options: &[("BACKEND", "stores-percpu-hooks")],
        commands: "test gallery.a_task_is_preempted_as_it_opens_a_section",
        catcher: Panic,
    },
    Row {
        name: "enable-in-irq",
        what: "the calls are no no-ops in interrupt context: a handler waits on the task's account",
        history: "5fdd05efa1cd (v6.16-rc)",
        options: DEFAULTS,
        commands: "test gallery.a_handler_uses_what_it_has_mapped",
        catcher: Oracle("not-visible"),
    },
    Row {
        name: "percpu-pending",
        what: "a queue of the CPU, and no hooks in the context switch: a task leaves its stores behind",
        history: "powerpc until b9ef323ea168, sparc until a1d416bf9faf",
        options: &[("BACKEND", "stores-percpu-hooks"), ("SMP", "2")],
        commands: "test gallery.a_task_moves_right_after_its_store",
        catcher: Test("gallery.a_task_moves_right_after_its_store"),
    },
    Row {
        name: "tlbi-local",
        what: "a TLBI is for this CPU alone: the others keep what they know",
        history: "",
        options: &[("SMP", "2")],
        commands: "test gallery.a_page_is_freed",
        catcher: Oracle("tlbi-coverage"),
    },
    Row {
        name: "page-freed-before-flush",
        what: "pages of a program are freed before the TLB flush for them",
        history: "",
        options: DEFAULTS,
        commands: "test address_space.what_is_unmapped_or_zapped_is_gone",
        catcher: Oracle("frame-reuse"),
    },
    Row {
        name: "flush-in-section",
        what: "the gather is flushed in the lazy section in which it was filled",
        history: "what the assertions of thread 000 look for",
        options: DEFAULTS,
        commands: "test gather.no_page_for_a_batch_is_an_ordinary_event",
        catcher: Test("gather.no_page_for_a_batch_is_an_ordinary_event"),
    },
    Row {
        name: "batch-lost",
        what: "where there is no page for a batch, a page of the program is lost",
        history: "",
        options: DEFAULTS,
        commands: "test gather.no_page_for_a_batch_is_an_ordinary_event",
        catcher: Test("gather.no_page_for_a_batch_is_an_ordinary_event"),
    },
    Row {
        name: "user-table-freed-early",
        what: "a table of a program is freed before the TLBI for its link",
        history: "",
        options: DEFAULTS,
        commands: "test address_space.what_is_unmapped_or_zapped_is_gone",
        catcher: Oracle("table-reuse"),
    },
    Row {
        name: "rollover-no-flush",
        what: "a CPU goes on with what its TLB holds when ASIDs are given out anew",
        history: "",
        options: DEFAULTS,
        commands: "test address_space_random.asids_run_out_while_a_task_runs_elsewhere",
        catcher: Oracle("asid-reuse"),
    },
    Row {
        name: "cow-before-flush",
        what: "the copy of a shared page is mapped before the translation to the page is flushed",
        history: "",
        options: DEFAULTS,
        commands: "test address_space.a_forked_page_is_copied_when_it_is_written",
        catcher: Oracle("break-before-make"),
    },
    Row {
        name: "protect-no-tlbi",
        what: "mprotect without a TLB flush: the program goes on writing",
        history: "",
        options: DEFAULTS,
        commands: "test address_space.protections_change_under_a_program",
        catcher: Oracle("stale-access"),
    },
    Row {
        name: "fork-no-tlbi",
        what: "fork without a TLB flush: the parent goes on writing to what is shared",
        history: "",
        options: DEFAULTS,
        commands: "test address_space.a_forked_page_is_copied_when_it_is_written",
        catcher: Oracle("stale-access"),
    },
];

/// The names, and `list`.
pub const NAMES: [&str; ROWS.len() + 1] = {
    let mut names = ["list"; ROWS.len() + 1];
    let mut i = 0;
    while i < ROWS.len() {
        names[i] = ROWS[i].name;
        i += 1;
    }
    names
};

impl Row {
    /// The configuration as a person would ask for it.
    pub fn configuration(&self) -> String {
        let mut words: Vec<_> = self
            .options
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        words.push(self.commands.to_owned());
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn the_kernel_has_the_same_bugs_in_the_same_order() {
        let kernel = include_str!("../../../kernel/src/bug.rs");
        let (_, list) = kernel.split_once("\nbugs! {\n").unwrap();
        let (list, _) = list.split_once("\n}\n").unwrap();
        let names: Vec<_> = list
            .lines()
            .filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\","))
            .collect();
        assert_eq!(names, ROWS.map(|row| row.name));
    }

    /// The text of every source below a directory, but for the list of the bugs.
    fn sources(directory: &std::path::Path) -> String {
        let mut text = String::new();
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                text += &sources(&path);
            } else if path.file_name().is_some_and(|name| name != "bug.rs") {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
        text
    }

    #[test]
    fn every_bug_is_planted_and_documented() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let kernel = sources(&root.join("kernel/src"));
        let gallery = include_str!("../../../docs/bugs.md");
        for row in &ROWS {
            let words = row.name.split('-');
            let in_code: String = words
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();
            assert!(
                kernel.contains(&format!("planted(Bug::{in_code})")),
                "{in_code}"
            );
            let line = gallery
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", row.name)))
                .unwrap_or_default();
            for part in [format!("`Bug::{in_code}`"), row.catcher.to_string()] {
                assert!(line.contains(&part), "{}: {part}", row.name);
            }
        }
    }

    #[test]
    fn every_configuration_is_known() {
        let defaults = Options::from(|_| None).unwrap();
        for row in &ROWS {
            let options = row
                .options
                .iter()
                .try_fold(defaults.clone(), |options, (name, value)| {
                    options.with(name, value)
                });
            assert!(options.is_ok(), "{}", row.name);
        }
    }

    #[test]
    fn a_rule_that_is_named_is_one() {
        let rules = include_str!("../../../kernel/mmu-oracle/src/rule.rs");
        for row in &ROWS {
            if let Oracle(rule) = row.catcher {
                assert!(rules.contains(&format!("\"{rule}\"")), "{}", row.name);
            }
        }
    }
}
