//! Events at random seldom meet: of an event of any address, one of few addresses is made here, some
//! of them at the ends of what there is.

use mmu_oracle::{
    Event, Kind,
    event::{Entry, Frames},
};
use vmsa::{Level, PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

/// The same event, with few CPUs, tasks, variables and addresses.
pub fn narrow(event: Event) -> Event {
    let kind = match event.kind {
        Kind::Snapshot(e) => Kind::Snapshot(entry(e)),
        Kind::EntryRead(e) => Kind::EntryRead(entry(e)),
        Kind::Store { entry: e, old } => Kind::Store {
            entry: entry(e),
            old,
        },
        Kind::LinearMap(r) => Kind::LinearMap(range(r)),
        Kind::TableAllocated(pa) => Kind::TableAllocated(phys(pa)),
        Kind::TableFreed(pa) => Kind::TableFreed(phys(pa)),
        Kind::Sync { variable, access } => Kind::Sync {
            variable: variable % 4,
            access,
        },
        Kind::Access { va, access } => Kind::Access {
            va: virt(va),
            access,
        },
        Kind::SpuriousFault(va) => Kind::SpuriousFault(virt(va)),
        Kind::FramesAllocated(f) => Kind::FramesAllocated(frames(f)),
        Kind::FramesFreed(f) => Kind::FramesFreed(frames(f)),
        Kind::FrameWritten(pa) => Kind::FrameWritten(phys(pa)),
        Kind::VaAllocated(r) => Kind::VaAllocated(range(r)),
        Kind::ContextSwitch { to } => Kind::ContextSwitch { to: to % 4 },
        Kind::WindowOpened { window, range: r } => Kind::WindowOpened {
            window,
            range: range(r),
        },
        Kind::WindowClosed { window, range: r } => Kind::WindowClosed {
            window,
            range: range(r),
        },
        Kind::Tlbi(mut tlbi) => {
            // Bits of the field that counts pages, and of the address of a page, small.
            tlbi.operand &= 0xff83_0000_0000_0007;
            Kind::Tlbi(tlbi)
        }
        other => other,
    };
    Event {
        cpu: event.cpu % 3,
        task: event.task % 4,
        kind,
        ..event
    }
}

fn virt(va: VirtAddr) -> VirtAddr {
    // What decides must be spread over the bits of any source.
    let bits = va.as_u64() >> 12 ^ va.as_u64();
    let page = (bits & 0b11) * PAGE_SIZE;
    match bits >> 2 & 0b11 {
        0 => VirtAddr::literal(page),
        1 => VirtAddr::literal(0xffff_8000_8000_0000 | page),
        2 => VirtAddr::literal(0xffff_ffff_ffff_c000 | page),
        _ => VirtAddr::literal(0x0000_ffff_ffff_c000 | page),
    }
}

fn phys(pa: PhysAddr) -> PhysAddr {
    let bits = pa.as_u64() >> 12 ^ pa.as_u64();
    let page = (bits & 0b11) * PAGE_SIZE;
    let base = [0, PhysAddr::MAX.as_u64() & !0x3fff][(bits >> 2 & 1) as usize];
    PhysAddr::literal(base | page)
}

fn range(range: PageRange) -> PageRange {
    let first = virt(range.start());
    PageRange::new(first, range.pages() % 4 + 1)
        .or_else(|| PageRange::new(first, 1))
        .expect("one page always fits")
}

fn frames(frames: Frames) -> Frames {
    let first = phys(frames.first);
    let fits = (PhysAddr::MAX.as_u64() - first.as_u64()) / PAGE_SIZE;
    Frames {
        first,
        count: (frames.count % 4).min(fits),
    }
}

fn entry(entry: Entry) -> Entry {
    let address = phys(entry.address);
    // Both aligned to its level, as an entry is, and not.
    let va = virt(entry.va);
    let aligned = entry.space & 0b100 == 0 || entry.level == Level::L0;
    Entry {
        address,
        va: if aligned {
            va.align_down(entry.level.bytes())
        } else {
            va
        },
        space: entry.space % 3,
        ..entry
    }
}
