//! Lull, the kernel: the table of contents. Bring-up in order, the hooks installed, then the tour,
//! then the monitor.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

pub mod arch;
pub mod bug;
pub mod ktest;
pub mod mm;
#[cfg(target_os = "none")]
pub mod monitor;
/// What of the monitor executes no instruction.
#[cfg(not(target_os = "none"))]
pub mod monitor {
    pub mod arguments;
    /// What `bench` is given.
    pub mod bench {
        pub mod parameters;
    }
    pub mod complete;
    pub mod keys;
}
#[cfg(target_os = "none")]
pub mod oops;
pub mod oracle;
pub mod params;
#[cfg(target_os = "none")]
pub mod park;
#[cfg(target_os = "none")]
pub mod process;
/// What of programs executes no instruction.
#[cfg(not(target_os = "none"))]
pub mod process {
    #[path = "../../user/src/abi.rs"]
    pub mod abi;
    pub mod load;
}
pub mod task;
#[cfg(all(feature = "ktests", target_os = "none"))]
mod tests;
#[cfg(target_os = "none")]
pub mod tour;
pub mod trace;
pub mod unusual;
#[cfg(target_os = "none")]
pub mod verdict;
pub mod warning;

#[cfg(target_os = "none")]
mod start {
    use crate::{
        arch::{
            cpu, device_tree::DeviceTree, exception, exit, fatal, interrupt, smp, uart, user_table,
        },
        mm::{address_space, bring_up, dump, explain, kasan, layout, lazy, stack},
        monitor, oops,
        params::{Params, Rodata},
        println, task, tour,
    };
    use boot::Handover;
    use core::{fmt, ops::Range};
    use vmsa::PhysAddr;

    /// The kernel. `boot` calls it on the boot stack, with the MMU on and interrupts masked.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn kernel_main(handover: &Handover) -> ! {
        // First what makes anything that goes wrong from here on show itself.
        cpu::init_boot_cpu();
        cpu::set_current_task((&raw const task::BOOT_TASK).cast(), task::BOOT_TASK.id);
        exception::init();
        fatal::set(oops::fatal_exception);
        cpu::unmask_serror();
        #[cfg(feature = "oracle")]
        crate::verdict::install();
        uart::init_log();

        // What the machine is, and what was asked for.
        let tree = DeviceTree::read(handover).unwrap_or_else(|error| refuse(&error));
        let params = Params::parse(tree.bootargs()).unwrap_or_else(|error| refuse(&error));

        lazy::count_on_ets2(params.ets2.counts_on(cpu::features().ets2()));
        if params.narrow_asids {
            user_table::use_8_bit_asids();
        }

        // Memory: the kernel's own tables, the page allocator, vmalloc.
        let devices = devices(&tree);
        let address = |n| bring_up::device_address(&devices, n);
        let machine = bring_up::Machine {
            ram: tree.ram(),
            device_tree: &tree.tree,
            devices: &devices,
            cpus: tree.cpus().len(),
            #[cfg(feature = "oracle")]
            trace: params.trace,
        };
        let options = bring_up::Options {
            debug_pagealloc: params.debug_pagealloc,
            page_poison: params.page_poison,
            kasan: params.kasan,
            rodata_full: params.rodata == Rodata::Full,
            #[cfg(feature = "oracle")]
            oracle: crate::oracle::Config { ets2: lazy::ets2() },
        };
        bring_up::bring_up(handover, machine, options)
            .unwrap_or_else(|error| refuse(&format_args!("lull: {error}")));
        // SAFETY: the first device is the UART that the tree named, mapped as device memory, and
        // used by nobody else.
        let uart = unsafe { uart::init(address(0) + tree.uart.start.page_offset()) };
        uart.unwrap_or_else(|error| {
            refuse(&format_args!(
                "lull: the UART could not be set up: {error:?}"
            ))
        });
        banner(handover, &tree, &params);

        // The calls that go up the house: what reports want to know of the floors above them.
        oops::set_hooks(oops::Hooks {
            explain: explain::explain,
            state: lazy::describe,
        });
        kasan::report::install(explain::explain);

        println!("{}", dump::check_wx(&[layout::UPPER_HALF]));
        lazy::choose(params.model, params.backend)
            .and_then(|()| lazy::choose_page_table_lock(params.ptlock))
            .unwrap_or_else(|lazy::Busy| unreachable!("no section is open yet"));
        // The machine has come up as it should; what it does from here on has the bug.
        #[cfg(feature = "bugs")]
        crate::bug::plant(params.bug);

        // Interrupts, and the other CPUs.
        task::schedule::init();
        task::schedule::set_switch_hook(lazy::on_switch);
        address_space::init();
        interrupt::set_handlers(&task::schedule::HANDLERS);
        // SAFETY: the second and third device are the controller's registers, mapped as device
        // memory, and used by nobody else.
        unsafe { interrupt::init(&tree, address(1), address(2)) }
            .and_then(|()| interrupt::init_cpu())
            .unwrap_or_else(|error| refuse(&format_args!("lull: {error}")));
        cpu::unmask_interrupts();
        smp::init(&tree).unwrap_or_else(|error| refuse(&format_args!("lull: {error}")));
        stack::start_cpus().unwrap_or_else(|error| refuse(&format_args!("lull: {error}")));
        stack::start_workers().unwrap_or_else(|error| refuse(&format_args!("lull: {error}")));

        let done = match params.autorun {
            Some(commands) => monitor::run_all(commands).is_ok(),
            None => tour::play(),
        };
        if params.monitor {
            monitor::interact();
        }
        if done {
            exit::success()
        } else {
            exit::failure()
        }
    }

    /// The registers that are mapped: the UART's, the distributor's, those of the CPU interface or of
    /// each CPU's redistributor.
    fn devices(tree: &DeviceTree) -> [Range<PhysAddr>; 3] {
        /// The most that one redistributor takes (IHI 0069, 12.10: two or four frames of 64 KiB).
        const REDISTRIBUTOR: u64 = 256 << 10;
        let per_cpu = &tree.gic.per_cpu;
        let used = per_cpu.start + REDISTRIBUTOR * tree.cpus().len() as u64;
        [
            tree.uart.clone(),
            tree.gic.distributor.clone(),
            per_cpu.start..per_cpu.end.min(used),
        ]
    }

    /// Where the kernel runs.
    fn banner(handover: &Handover, tree: &DeviceTree, params: &Params<'_>) {
        let features = cpu::features();
        println!(
            "Lull: entered at EL{}, {} CPU{}, GICv{}",
            handover.entered_el,
            tree.cpus().len(),
            if tree.cpus().len() == 1 { "" } else { "s" },
            tree.gic.version
        );
        println!(
            "  {}-bit physical addresses, {}-bit ASIDs, TLBI by range: {}, level hints: {}, BBM level {}, ETS2: {}",
            features.pa_bits(),
            user_table::asid_bits(),
            features.tlbi_range,
            features.ttl,
            features.bbm,
            features.ets2(),
        );
        println!(
            "  image       {} - {}",
            handover.image.start, handover.image.end
        );
        println!("  device tree {} - {}", tree.tree.start, tree.tree.end);
        for ram in tree.ram() {
            println!("  RAM         {} - {}", ram.start, ram.end);
        }
        println!("  {params}");
    }

    /// Ends a boot that can't go on, with a line that says why.
    fn refuse(why: &dyn fmt::Display) -> ! {
        println!("{why}");
        exit::failure()
    }
}

/// The host builds this package for its tests only.
#[cfg(not(target_os = "none"))]
fn main() {}
