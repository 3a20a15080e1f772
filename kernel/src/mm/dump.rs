//! Walks over the live tables: what is mapped, as runs of like entries, and whether W^X holds by
//! frame.

use super::linear_map;
use core::{fmt, ops::Range};
use vmsa::{Attributes, Descriptor, Frame, Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

/// Adjacent entries of one level with the same attributes, whose outputs are adjacent or the same
/// page.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first address.
    pub start: VirtAddr,
    /// Bytes.
    pub bytes: u64,
    /// Where the first address is mapped to; of an invalid entry, where it was.
    pub output: PhysAddr,
    /// The level of the entries.
    pub level: Level,
    /// Whether they are valid. Entries that are zero are in no run.
    pub valid: bool,
    /// Their attributes.
    pub attributes: Attributes,
    /// All of them map the same page.
    pub one_page: bool,
}

impl Run {
    fn of(va: VirtAddr, level: Level, entry: Descriptor) -> Option<Self> {
        Some(Self {
            start: va,
            bytes: level.bytes(),
            output: entry.output_ignoring_valid(level)?,
            level,
            valid: entry.is_valid(),
            attributes: entry.attributes(),
            one_page: false,
        })
    }

    /// Whether `next` goes on where this ends, and is like it.
    fn takes(&mut self, next: &Self) -> bool {
        let single = self.bytes == self.level.bytes();
        let one_page = next.output == self.output && (single || self.one_page);
        let adjacent = !self.one_page && Some(next.output) == self.output.checked_add(self.bytes);
        let alike =
            (self.level, self.valid, self.attributes) == (next.level, next.valid, next.attributes);
        let takes = alike
            && self.start.checked_add(self.bytes) == Some(next.start)
            && (one_page || adjacent);
        if takes {
            self.bytes += next.bytes;
            self.one_page = one_page;
        }
        takes
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = match self.bytes {
            b if b.is_multiple_of(1 << 40) => (b >> 40, 'T'),
            b if b.is_multiple_of(1 << 30) => (b >> 30, 'G'),
            b if b.is_multiple_of(1 << 20) => (b >> 20, 'M'),
            b => (b >> 10, 'K'),
        };
        let level = match self.level {
            Level::L3 if self.attributes.contains(Attributes::CONTIGUOUS) => "64K set",
            Level::L3 => "page",
            Level::L2 => "2M block",
            _ => "1G block",
        };
        let yes_no = |yes, if_yes, if_no| if yes { if_yes } else { if_no };
        let device = self.attributes.contains(Attributes::DEVICE_NGNRE);
        write!(
            f,
            "{:016x}  {size:5}{unit}  {level:8}  {} {} {}  {}{:#x}{}",
            self.start.as_u64(),
            yes_no(self.valid, " ", "F"),
            yes_no(self.attributes.is_writable_el1(), "RW", "ro"),
            yes_no(self.attributes.is_executable_el1(), "x ", "NX"),
            yes_no(device, "device ", "PA "),
            self.output.as_u64(),
            yes_no(self.one_page, ", the same page all over", ""),
        )
    }
}

/// Calls `each` for every run in `range`, lowest first. A table that is linked again and again, as
/// those of the shared shadow are, is looked at the first time and is one run from then on.
pub fn for_each_run(range: PageRange, each: &mut dyn FnMut(&Run)) {
    let mut current: Option<Run> = None;
    // The table that the last link of each level led to.
    let mut last: [Option<Frame>; 4] = [None; 4];
    linear_map::kernel().visit_tables(range, &mut |va, level, entry, table| {
        if table.is_some() {
            let again = last[level as usize] == table;
            last[level as usize] = table;
            let goes_on =
                |run: &&mut Run| run.one_page && run.start.checked_add(run.bytes) == Some(va);
            if let Some(run) = current.as_mut().filter(goes_on).filter(|_| again) {
                // The same entries once more: the run goes on for as long as this link reaches.
                run.bytes = va - run.start + level.bytes();
                return false;
            }
        } else if let Some(next) = Run::of(va, level, entry)
            && !current.as_mut().is_some_and(|run| run.takes(&next))
        {
            current.iter().for_each(&mut *each);
            current = Some(next);
        }
        true
    });
    current.iter().for_each(each);
}

/// What the walk for W^X found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Valid leaves that were looked at; the shadow that is one page all over counts as one.
    pub leaves: u64,
    /// Frames that can be executed from.
    pub executable: u64,
    /// Of those, frames that can be written to at this address or another.
    pub writable_too: u64,
    /// The first such address.
    pub first: Option<VirtAddr>,
    /// There were more runs of executable frames than could be remembered: nothing is proved.
    pub incomplete: bool,
}

impl Verdict {
    /// Whether W^X holds.
    pub fn passed(&self) -> bool {
        self.writable_too == 0 && !self.incomplete && self.executable > 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            leaves,
            executable,
            writable_too,
            first,
            incomplete,
        } = self;
        if *incomplete {
            return f.write_str(
                "Checked W^X by frame: FAILED, too many executable mappings to remember",
            );
        }
        let result = if self.passed() { "passed" } else { "FAILED" };
        write!(
            f,
            "Checked W^X by frame: {result}, {leaves} leaves, {executable} executable frames, {writable_too} of them writable"
        )?;
        first.map_or(Ok(()), |first| write!(f, ", the first at {first}"))
    }
}

/// Runs of executable frames that the check can remember, and runs of writable ones.
const RUNS: usize = 64;

/// A run as the check for W^X needs it: its frames, and the address of the first.
type Frames = (Range<u64>, VirtAddr);

/// Proves, or not, that no frame is writable through one address and executable through another:
/// every writable leaf is held against every executable frame. One walk notes both; where there is
/// more that is writable than it can note, another looks at all of it again.
pub fn check_wx(parts: &[PageRange]) -> Verdict {
    let (mut executable, mut executables) = ([const { 0..0 }; RUNS], 0);
    let (mut writable, mut writables) = ([const { None::<Frames> }; RUNS], 0);
    let mut verdict = Verdict::default();
    let walk = |each: &mut dyn FnMut(&Run)| {
        parts.iter().for_each(|part| {
            for_each_run(*part, &mut |run| {
                if run.valid {
                    each(run);
                }
            });
        });
    };
    let frames = |run: &Run| {
        let first = Frame::containing(run.output).number();
        let pages = if run.one_page {
            1
        } else {
            run.bytes / PAGE_SIZE
        };
        first..first + pages
    };
    walk(&mut |run| {
        verdict.leaves += if run.one_page {
            1
        } else {
            run.bytes / run.level.bytes()
        };
        if run.attributes.is_executable_el1() {
            let frames = frames(run);
            verdict.executable += frames.end - frames.start;
            match executable.get_mut(executables) {
                Some(slot) => *slot = frames,
                None => verdict.incomplete = true,
            }
            executables += 1;
        }
        if run.attributes.is_writable_el1() {
            if let Some(slot) = writable.get_mut(writables) {
                *slot = Some((frames(run), run.start));
            }
            writables += 1;
        }
    });
    let executable = &executable[..executables.min(RUNS)];
    let mut hold = |writable: &Range<u64>, start: VirtAddr| {
        for executable in executable {
            let both = writable.start.max(executable.start)..writable.end.min(executable.end);
            if both.start < both.end {
                verdict.writable_too += both.end - both.start;
                verdict.first = verdict
                    .first
                    .or(start.checked_add((both.start - writable.start) * PAGE_SIZE));
            }
        }
    };
    if writables > RUNS {
        walk(&mut |run| {
            if run.attributes.is_writable_el1() {
                hold(&frames(run), run.start);
            }
        });
    } else {
        writable
            .iter()
            .flatten()
            .for_each(|(frames, start)| hold(frames, *start));
    }
    verdict
}
