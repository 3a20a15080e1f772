//! What the device tree says of the machine, copied out: the tree itself lies in the early window,
//! which goes away with the boot tables.

use boot::Handover;
use core::fmt;
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property, ToCellInt};
use vmsa::{PAGE_SIZE, PhysAddr};

/// The most ranges of RAM that are kept.
const MOST_RAM: usize = 8;
/// The most CPUs that are kept: as many as a GICv2 can have.
pub const MOST_CPUS: usize = boot::MAX_CPUS;
/// The longest command line that is kept, in bytes.
const LONGEST_BOOTARGS: usize = 2048;

/// How PSCI is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduit {
    /// By HVC: QEMU, or a hypervisor, is the firmware.
    Hvc,
    /// By SMC: firmware at EL3, or QEMU playing it for a kernel that entered at EL2.
    Smc,
}

/// The interrupt controller.
#[derive(Debug, Clone)]
pub struct Gic {
    /// 2 or 3.
    pub version: u8,
    /// The distributor's registers.
    pub distributor: Range<PhysAddr>,
    /// The CPU interface's registers (version 2) or all redistributors' (version 3).
    pub per_cpu: Range<PhysAddr>,
}

/// The machine.
#[derive(Debug)]
pub struct DeviceTree {
    /// Where the tree itself lies, in whole pages.
    pub tree: Range<PhysAddr>,
    /// The serial port's registers: the one that `/chosen/stdout-path` names, else the first
    /// PL011.
    pub uart: Range<PhysAddr>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The interrupt of the virtual timer: the number of a PPI.
    pub timer: u32,
    /// How to call PSCI, if there is one.
    pub psci: Option<Conduit>,
    ram: List<Range<PhysAddr>, MOST_RAM>,
    cpus: List<u64, MOST_CPUS>,
    bootargs: List<u8, LONGEST_BOOTARGS>,
}

/// Why the tree is of no use; each of them ends the boot. Shown, it is the line to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is none at the address, or not all of it can be reached.
    NotThere(PhysAddr),
    /// It is not well-formed.
    Malformed(&'static str),
    /// Something that Lull needs is missing.
    Missing(&'static str),
    /// More of something than there is room for.
    TooMany(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lull: ")?;
        match self {
            Self::NotThere(pa) => write!(f, "no device tree at physical address {pa}"),
            Self::Malformed(what) => write!(f, "device tree: {what} is malformed"),
            Self::Missing(what) => write!(f, "device tree: no {what}"),
            Self::TooMany(what) => write!(f, "device tree: too many {what}"),
        }
    }
}

impl DeviceTree {
    /// Reads the tree through the early window, so before the boot tables are replaced.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or missing; no field is guessed.
    pub fn read(handover: &Handover) -> Result<Self, Error> {
        let not_there = Error::NotThere(handover.dtb);
        let bytes_at = |len: u32| -> Result<&[u8], Error> {
            let start = handover
                .window_address(handover.dtb, len.into())
                .ok_or(not_there)?;
            // SAFETY: these bytes are in the window, so mapped; RAM that is there or, if the
            // machine has less, reads as nothing. Nobody writes to them while the window lives.
            Ok(unsafe { core::slice::from_raw_parts(start.as_ptr(), len as usize) })
        };
        let header = bytes_at(8)?;
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        if word(0) != MAGIC {
            return Err(not_there);
        }
        let len = word(4);
        let fdt = Fdt::new(bytes_at(len)?).map_err(|_| Error::Malformed("its structure"))?;
        let start = handover.dtb.align_down(PAGE_SIZE);
        let end = handover
            .dtb
            .checked_add(len.into())
            .and_then(|end| end.align_up(PAGE_SIZE));
        Ok(Self {
            tree: start..end.ok_or(Error::Malformed("its size"))?,
            uart: uart(fdt)?,
            gic: gic(fdt)?,
            timer: timer(fdt)?,
            psci: psci(fdt)?,
            ram: ram(fdt)?,
            cpus: cpus(fdt)?,
            bootargs: bootargs(fdt)?,
        })
    }

    /// The machine's RAM, as it stands in the tree. Page-aligned.
    #[must_use]
    pub fn ram(&self) -> &[Range<PhysAddr>] {
        self.ram.as_slice()
    }

    /// The CPUs' affinities (MPIDR_EL1), in the order of the tree.
    #[must_use]
    pub fn cpus(&self) -> &[u64] {
        self.cpus.as_slice()
    }

    /// The kernel command line; empty if there is none.
    #[must_use]
    pub fn bootargs(&self) -> &str {
        core::str::from_utf8(self.bootargs.as_slice()).expect("it was copied from a str")
    }
}

/// The first word of a tree (Devicetree Specification, 5.2).
const MAGIC: u32 = 0xd00d_feed;

/// `/chosen/stdout-path`, else the first compatible node.
fn uart(fdt: Fdt<'_>) -> Result<Range<PhysAddr>, Error> {
    const COMPATIBLE: &str = "arm,pl011";
    let stdout = fdt.chosen().and_then(|chosen| {
        // The path may be followed by `:` and line settings.
        let path = chosen.stdout_path().ok()??.split(':').next()?;
        fdt.find_node(path)
    });
    let node = stdout
        .filter(|node| node.is_compatible(COMPATIBLE))
        .or_else(|| child(fdt, |node| node.is_compatible(COMPATIBLE)))
        .ok_or(Error::Missing("PL011 serial port"))?;
    registers(node, 0, "the serial port's reg")
}

fn gic(fdt: Fdt<'_>) -> Result<Gic, Error> {
    const V3: &str = "arm,gic-v3";
    const V2: [&str; 2] = ["arm,cortex-a15-gic", "arm,gic-400"];
    let is_v2 = |node: &FdtNode<'_>| V2.iter().any(|name| node.is_compatible(name));
    let node = child(fdt, |node| node.is_compatible(V3) || is_v2(node))
        .ok_or(Error::Missing("GICv2 or GICv3"))?;
    Ok(Gic {
        version: if is_v2(&node) { 2 } else { 3 },
        distributor: registers(node, 0, "the interrupt controller's reg")?,
        per_cpu: registers(node, 1, "the interrupt controller's reg")?,
    })
}

/// The third interrupt of the timer's node is the virtual timer's; each is three words, of which the
/// first is 1 for a PPI and the second its number (Linux's bindings `arm,arch_timer` and `arm,gic`).
fn timer(fdt: Fdt<'_>) -> Result<u32, Error> {
    const WHAT: &str = "the timer's interrupts";
    let node = child(fdt, |node| {
        node.is_compatible("arm,armv8-timer") || node.is_compatible("arm,armv7-timer")
    });
    let node = node.ok_or(Error::Missing("generic timer"))?;
    let interrupts = node.property("interrupts").ok_or(Error::Missing(WHAT))?;
    let mut words = interrupts.value().chunks_exact(4).skip(2 * 3);
    let mut word = || Some(u32::from_be_bytes(words.next()?.try_into().ok()?));
    match (word(), word()) {
        (Some(1), Some(ppi)) if ppi < 16 => Ok(ppi),
        _ => Err(Error::Malformed(WHAT)),
    }
}

fn psci(fdt: Fdt<'_>) -> Result<Option<Conduit>, Error> {
    let Some(node) = fdt.find_node("/psci") else {
        return Ok(None);
    };
    match node
        .property("method")
        .ok_or(Error::Missing("PSCI method"))?
        .value_as::<&str>()
    {
        Ok("hvc") => Ok(Some(Conduit::Hvc)),
        Ok("smc") => Ok(Some(Conduit::Smc)),
        _ => Err(Error::Malformed("the PSCI method")),
    }
}

fn ram(fdt: Fdt<'_>) -> Result<List<Range<PhysAddr>, MOST_RAM>, Error> {
    const WHAT: &str = "the memory's reg";
    let is_memory = |node: &FdtNode<'_>| {
        node.property("device_type")
            .is_some_and(|kind| kind.value_as::<&str>() == Ok("memory"))
    };
    let mut ram = List::new(PhysAddr::literal(0)..PhysAddr::literal(0));
    for node in fdt.root().children().filter(is_memory) {
        let regs = node
            .reg()
            .map_err(|_| Error::Malformed(WHAT))?
            .ok_or(Error::Missing(WHAT))?;
        for reg in regs {
            let range = range(reg, WHAT)?;
            // Whole pages of it.
            let start = range
                .start
                .align_up(PAGE_SIZE)
                .ok_or(Error::Malformed(WHAT))?;
            let end = range.end.align_down(PAGE_SIZE);
            if start < end {
                ram.push(start..end)
                    .ok_or(Error::TooMany("ranges of RAM"))?;
            }
        }
    }
    if ram.as_slice().is_empty() {
        Err(Error::Missing("RAM"))
    } else {
        Ok(ram)
    }
}

fn cpus(fdt: Fdt<'_>) -> Result<List<u64, MOST_CPUS>, Error> {
    const WHAT: &str = "a CPU's reg";
    let node = fdt.cpus().map_err(|_| Error::Missing("CPUs"))?;
    let mut cpus = List::new(0);
    for cpu in node.cpus() {
        let mut ids = cpu.ids().map_err(|_| Error::Malformed(WHAT))?;
        let id = ids.next().ok_or(Error::Missing(WHAT))?;
        let id = id.to_int::<u64>().map_err(|_| Error::Malformed(WHAT))?;
        cpus.push(id).ok_or(Error::TooMany("CPUs"))?;
    }
    if cpus.as_slice().is_empty() {
        Err(Error::Missing("CPUs"))
    } else {
        Ok(cpus)
    }
}

fn bootargs(fdt: Fdt<'_>) -> Result<List<u8, LONGEST_BOOTARGS>, Error> {
    let mut copy = List::new(0);
    if let Some(chosen) = fdt.chosen() {
        let bootargs = chosen
            .bootargs()
            .map_err(|_| Error::Malformed("/chosen/bootargs"))?;
        for byte in bootargs.unwrap_or("").bytes() {
            copy.push(byte)
                .ok_or(Error::TooMany("bytes in /chosen/bootargs"))?;
        }
    }
    Ok(copy)
}

/// The first child of the root for which `wanted` holds.
fn child<'a>(fdt: Fdt<'a>, wanted: impl Fn(&FdtNode<'a>) -> bool) -> Option<FdtNode<'a>> {
    fdt.root().children().find(wanted)
}

/// Entry `n` of a node's `reg`. The node is a child of the root, whose bus is the CPU's.
fn registers(node: FdtNode<'_>, n: usize, what: &'static str) -> Result<Range<PhysAddr>, Error> {
    let mut regs = node
        .reg()
        .map_err(|_| Error::Malformed(what))?
        .ok_or(Error::Missing(what))?;
    range(regs.nth(n).ok_or(Error::Missing(what))?, what)
}

/// A `reg` entry as a range of addresses.
fn range(reg: dtoolkit::standard::Reg<'_>, what: &'static str) -> Result<Range<PhysAddr>, Error> {
    let malformed = Error::Malformed(what);
    let start = reg
        .address::<u64>()
        .ok()
        .and_then(PhysAddr::new)
        .ok_or(malformed)?;
    let size = reg.size::<u64>().map_err(|_| malformed)?;
    Ok(start..start.checked_add(size).ok_or(malformed)?)
}

/// A list that has its place in it.
struct List<T, const MOST: usize> {
    items: [T; MOST],
    len: usize,
}

impl<T: Clone, const MOST: usize> List<T, MOST> {
    /// An empty list; `blank` fills what is not in use.
    fn new(blank: T) -> Self {
        Self {
            items: core::array::from_fn(|_| blank.clone()),
            len: 0,
        }
    }

    /// Appends, if there is room.
    fn push(&mut self, item: T) -> Option<()> {
        *self.items.get_mut(self.len)? = item;
        self.len += 1;
        Some(())
    }

    fn as_slice(&self) -> &[T] {
        &self.items[..self.len]
    }
}

impl<T: Clone + fmt::Debug, const MOST: usize> fmt::Debug for List<T, MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
