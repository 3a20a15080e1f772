//! The kernel's own tables, and the opening of the page allocator.
//!
//! Boot has left tables that reach little: the image, and the first RAM through a window. Here the
//! final tree is built through that window while no walker reads it (so without barriers, up to the
//! one at the end), made live through the identity map, and the pages that are left become the
//! allocator's. The linear map is whole before the allocator opens, so taking a page out of it
//! later never needs a page.

#[cfg(feature = "oracle")]
use super::snapshot;
use super::{
    debug_pagealloc::{self, History},
    kasan,
    layout::DEVICES,
    linear_map::{self, virt},
    page_alloc::{self, Buddy, OutOfMemory, PageMeta},
    page_table::{self, PageTable, TableMemory},
    ranges::without,
    vmalloc,
};
use crate::arch::{
    entry::{Entries, Entry},
    image,
    zero::zero,
};
use boot::Handover;
use core::{fmt, ops::Range};
use vmsa::{Attributes, Frame, Level, PAGE_SIZE, PTRS_PER_TABLE, PageRange, PhysAddr, VirtAddr};

/// What the command line chose of it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `DEBUG_PAGEALLOC=`: free pages leave the linear map.
    pub debug_pagealloc: bool,
    /// `PAGE_POISON=`: free pages are filled.
    pub page_poison: bool,
    /// `KASAN=`: vmalloc has a shadow.
    pub kasan: bool,
    /// `RODATA=full`: the linear map is made of pages, so that the alias of read-only memory can be
    /// read-only.
    pub rodata_full: bool,
    /// What the oracle is to know of the CPUs.
    #[cfg(feature = "oracle")]
    pub oracle: crate::oracle::Config,
}

/// What the device tree says of the machine, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// RAM, lowest first.
    pub ram: &'a [Range<PhysAddr>],
    /// The device tree itself, which stays where it is.
    pub device_tree: &'a Range<PhysAddr>,
    /// Device registers.
    pub devices: &'a [Range<PhysAddr>],
    /// How many CPUs there are.
    pub cpus: usize,
    /// `trace=`: the file on the host that takes every event.
    #[cfg(feature = "oracle")]
    pub trace: Option<&'a str>,
}

/// Why memory could not be brought up.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    /// The device tree names no RAM that holds the image.
    NoRam,
    /// RAM is too small for what describes it.
    TooSmall,
    /// More devices than the address space has room for.
    TooManyDevices,
    /// The tables could not be built.
    Tables(page_table::Error),
    /// The file for the trace could not be made.
    #[cfg(feature = "oracle")]
    Trace(&'static str),
}

impl From<page_table::Error> for Error {
    fn from(error: page_table::Error) -> Self {
        Self::Tables(error)
    }
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::TooSmall
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRam => f.write_str("the device tree names no RAM that holds the image"),
            Self::TooSmall => {
                f.write_str("there is not enough RAM for the page tables and the page metadata")
            }
            Self::TooManyDevices => {
                f.write_str("there are more devices than the address space has room for")
            }
            #[cfg(feature = "oracle")]
            Self::Trace(why) => write!(f, "the trace could not be made: {why}"),
            Self::Tables(error) => write!(f, "the page tables could not be built: {error}"),
        }
    }
}

/// Table pages from the RAM behind the image, one after the other, reached through boot's window.
struct Early<'a> {
    handover: &'a Handover,
    next: Frame,
    end: Frame,
}

impl TableMemory for Early<'_> {
    fn allocate(&mut self, frames: &mut [Frame]) -> Result<(), OutOfMemory> {
        for slot in frames {
            if self.next >= self.end {
                return Err(OutOfMemory);
            }
            *slot = self.next;
            self.next = self.next.checked_add(1).ok_or(OutOfMemory)?;
        }
        Ok(())
    }

    fn entry(&self, table: Frame, index: usize) -> Entry {
        let pa = table.start() + index as u64 * 8;
        // SAFETY: only frames from `allocate` become tables, which lie in the window; only Entry
        // touches them.
        unsafe { Entry::new(self.window(pa).as_mut_ptr(), pa) }
    }

    fn entries(&self, table: Frame, first: usize, count: usize) -> Entries {
        assert!(first + count <= PTRS_PER_TABLE);
        let pa = table.start() + first as u64 * 8;
        // SAFETY: as in `entry`; a table is in the window as a whole.
        unsafe { Entries::new(self.window(pa).as_mut_ptr(), pa, count) }
    }

    fn zero(&mut self, page: Frame) {
        // SAFETY: `allocate` has given the page to this tree alone, and the window maps it, as Normal
        // memory.
        unsafe { zero(self.window(page.start()).as_mut_ptr(), PAGE_SIZE as usize) };
    }
}

impl Early<'_> {
    fn window(&self, pa: PhysAddr) -> VirtAddr {
        self.handover
            .window_address(pa, 8)
            .expect("table pages are taken from the window")
    }
}

/// Where the page of device `n`'s first register is: one device lies behind the other.
pub fn device_address(devices: &[Range<PhysAddr>], n: usize) -> VirtAddr {
    let pages = devices[..n].iter().map(touched);
    DEVICES.start() + pages.map(|pages| pages.end - pages.start).sum::<u64>() * PAGE_SIZE
}

/// Builds the tables, makes them live, opens the page allocator and vmalloc. The devices are then
/// at [`DEVICES`], see [`device_address`].
///
/// # Errors
/// [`Error`]; the machine is of no use then.
pub fn bring_up(handover: &Handover, machine: Machine<'_>, options: Options) -> Result<(), Error> {
    let image = frames(&handover.image);
    let main = machine
        .ram
        .iter()
        .find(|ram| ram.contains(&handover.image.start))
        .ok_or(Error::NoRam)?;
    let window = frames(&handover.window[1]);

    // The metadata lies at the end of RAM, where it needs no window: it is written once the linear
    // map is there.
    let lowest = machine
        .ram
        .iter()
        .map(|ram| frames(ram).start)
        .min()
        .ok_or(Error::NoRam)?;
    let highest = machine
        .ram
        .iter()
        .map(|ram| frames(ram).end)
        .max()
        .ok_or(Error::NoRam)?;
    let pages = highest - lowest;
    let meta_pages = (pages * size_of::<PageMeta>() as u64).div_ceil(PAGE_SIZE);
    let history_pages = if options.debug_pagealloc {
        (pages * size_of::<History>() as u64).div_ceil(PAGE_SIZE)
    } else {
        0
    };
    #[cfg(feature = "oracle")]
    let oracle_pages = snapshot::pages(
        machine
            .ram
            .iter()
            .map(|ram| frames(ram).count() as u64)
            .sum(),
    );
    #[cfg(not(feature = "oracle"))]
    let oracle_pages = 0;
    let main = frames(main);
    let metadata = main
        .end
        .checked_sub(meta_pages + history_pages + oracle_pages)
        .ok_or(Error::TooSmall)?..main.end;
    if metadata.start <= window.start {
        return Err(Error::TooSmall);
    }

    let early = Early {
        handover,
        next: frame(window.start)?,
        end: frame(window.end.min(metadata.start))?,
    };
    let mut tables = PageTable::create(early)?;
    let page_granular = options.debug_pagealloc || options.rodata_full;
    map_linear(
        &mut tables,
        machine.ram,
        if page_granular { Level::L3 } else { Level::L1 },
    )?;
    for region in image::regions() {
        let pa = image::physical_address(region.range.start()).ok_or(Error::NoRam)?;
        tables.map_offline(region.range, pa, region.attributes, Level::L3)?;
    }
    for (n, device) in machine.devices.iter().enumerate() {
        let pages = touched(device);
        let range = PageRange::new(device_address(machine.devices, n), pages.end - pages.start)
            .filter(|range| DEVICES.contains(range.last_byte()))
            .ok_or(Error::TooManyDevices)?;
        tables.map_offline(
            range,
            frame(pages.start)?.start(),
            Attributes::DEVICE,
            Level::L3,
        )?;
    }
    if options.kasan {
        kasan::map_shared_shadow(&mut tables)?;
    }

    // What is not used by now is free.
    let taken = [
        image,
        window.start..tables.memory().next.number(),
        metadata.clone(),
        touched(machine.device_tree),
    ];
    let free = || {
        machine
            .ram
            .iter()
            .flat_map(|ram| without(frames(ram), taken.clone()))
    };
    if options.debug_pagealloc {
        for linear in free().filter_map(|range| linear_range(&range)) {
            tables.change_offline(linear, |entry| entry.with_valid(false));
        }
    }

    // The walker of this CPU reads the new tables from the write to TTBR1_EL1 on. Their stores are
    // complete by then: `replace_ttbr1` begins with a DSB ISH.
    let root = tables.root();
    // SAFETY: the tree maps the image with the permissions that it has now, stacks included; this
    // is the only CPU, and the identity map is still there.
    unsafe { boot::replace_ttbr1(root.start()) };
    // SAFETY: this function alone uses the identity map, and is through with it.
    unsafe { boot::drop_identity_map() };
    linear_map::adopt(root, page_granular);
    // From here on every change is judged.
    #[cfg(feature = "oracle")]
    snapshot::begin(
        frame(metadata.end - oracle_pages)?,
        oracle_pages,
        options.oracle,
        machine.trace,
    )
    .map_err(Error::Trace)?;

    open(
        frame(lowest)?,
        pages,
        frame(metadata.start)?,
        meta_pages,
        options,
        free(),
    )?;
    if options.kasan {
        kasan::enable();
    }
    vmalloc::init(machine.cpus)?;
    Ok(())
}

/// Opens the page allocator over metadata at `at`.
fn open(
    lowest: Frame,
    pages: u64,
    at: Frame,
    meta_pages: u64,
    options: Options,
    free: impl Iterator<Item = Range<u64>>,
) -> Result<(), Error> {
    let meta = virt(at.start()).as_mut_ptr::<PageMeta>();
    // SAFETY: the `meta_pages` frames from `at` on are kept for this, are mapped as Normal memory, and
    // nobody else knows of them; all zeroes is a valid PageMeta, PageMeta::RESERVED.
    let meta = unsafe {
        zero(meta.cast(), (meta_pages * PAGE_SIZE) as usize);
        core::slice::from_raw_parts(meta, pages as usize)
    };
    let mut buddy = Buddy::new(lowest, meta);
    for range in free {
        buddy.add(frame(range.start)?, range.end - range.start);
    }
    // SAFETY: once, in bring-up: there are no other CPUs yet, and no handlers.
    unsafe { page_alloc::open(buddy) };

    let histories = options.debug_pagealloc.then(|| {
        let start = virt(at.start() + meta_pages * PAGE_SIZE).as_mut_ptr::<History>();
        // SAFETY: as for the metadata, which ends below.
        let histories = unsafe {
            for i in 0..pages as usize {
                start.add(i).write(History::NONE);
            }
            core::slice::from_raw_parts(start, pages as usize)
        };
        (lowest, histories)
    });
    // SAFETY: as for `open`: nobody else is there yet.
    unsafe { debug_pagealloc::install(histories, options.page_poison) };
    Ok(())
}

/// Maps all of RAM, each part of the image with the permissions that keep W^X by frame: code and
/// constants are read-only here, too.
fn map_linear(
    tables: &mut PageTable<Early<'_>>,
    ram: &[Range<PhysAddr>],
    largest: Level,
) -> Result<(), Error> {
    let physical = |range: PageRange| {
        let start = image::physical_address(range.start()).ok_or(Error::NoRam)?;
        Ok::<_, Error>(frames(&(start..start + range.bytes())))
    };
    let read_only = [
        frames(&image::boot_text()),
        physical(image::text())?,
        physical(image::rodata())?,
    ];
    let writable = ram
        .iter()
        .flat_map(|ram| without(frames(ram), read_only.clone()));
    let data = writable.map(|range| (range, Attributes::KERNEL_DATA));
    let constants = read_only
        .iter()
        .map(|range| (range.clone(), Attributes::KERNEL_RODATA));
    for (range, attributes) in data.chain(constants) {
        if let Some(linear) = linear_range(&range) {
            tables.map_offline(linear, frame(range.start)?.start(), attributes, largest)?;
        }
    }
    Ok(())
}

/// The numbers of the frames that lie in a range whole.
fn frames(range: &Range<PhysAddr>) -> Range<u64> {
    range.start.as_u64().div_ceil(PAGE_SIZE)..range.end.as_u64() / PAGE_SIZE
}

/// The numbers of the frames that a range touches.
fn touched(range: &Range<PhysAddr>) -> Range<u64> {
    range.start.as_u64() / PAGE_SIZE..range.end.as_u64().div_ceil(PAGE_SIZE)
}

fn frame(number: u64) -> Result<Frame, Error> {
    Frame::from_number(number).ok_or(Error::NoRam)
}

/// Where frames are in the linear map.
fn linear_range(frames: &Range<u64>) -> Option<PageRange> {
    let first = Frame::from_number(frames.start)?;
    PageRange::new(virt(first.start()), frames.end - frames.start).filter(|range| range.pages() > 0)
}
