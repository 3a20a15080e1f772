//! What one task does: so many random operations, one after the other, each with its checks, and
//! everything given back at the end. A run of one task is all here; of more, see [`crowd`].
//!
//! [`crowd`]: super::crowd

use super::{
    areas::Areas,
    books::{Books, make_ready},
    claims,
    dice::Dice,
    judge,
    leaves::Leaves,
    mappings::Mappings,
    messages::{self, Listening, verdict},
    pages::Pages,
    protect,
    room::{AREAS, MAPPINGS},
    sections::Sections,
    wrong::{Wrong, ensure, wrong},
};
use crate::mm::{
    lazy::{self, Backend, Busy, Model},
    page_alloc, vmalloc,
};
use alloc::boxed::Box;

/// Steps between two looks at the books. In so many not half as many areas are freed as may wait.
const AUDIT: u64 = 64;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// Over every operation and its result.
    pub(super) digest: u64,
    /// Warnings of models that are there to warn.
    pub(super) warnings: u64,
}

/// Where a run failed, and why. The step behind the last is the giving back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) step: u64,
    pub(super) why: Wrong,
}

/// What a task has in its hands.
pub(super) struct Run {
    pub(super) dice: Dice,
    pub(super) sections: Sections,
    pub(super) areas: Areas,
    pub(super) pages: Pages,
    mappings: Mappings,
    pub(super) leaves: Leaves,
    /// It is the only one.
    alone: bool,
    /// Violations before it.
    violations: u64,
}

/// Runs `steps` operations that `seed` decides; `before` is called with the number of each, from 1
/// on, before it.
///
/// # Errors
/// The first step after which something is wrong. What can still be given back is.
pub(super) fn run(seed: u64, steps: u64, mut before: impl FnMut(u64)) -> Result<Done, Stopped> {
    let _listening = Listening::start();
    let chosen = (lazy::model(), lazy::backend());
    let stopped = |step| move |why| Stopped { step, why };
    claims::clear();
    // Before the books are opened, so that its memory is in them.
    let mut run = make_ready(AREAS + MAPPINGS)
        .and_then(|()| Run::new(Dice::new(seed), 0, 1))
        .map_err(stopped(0))?;
    let books = Books::open();
    let result = (1..=steps).try_for_each(|step| {
        before(step);
        run.step()
            .and_then(|()| run.audit(step, &books))
            .map_err(stopped(step))
    });
    page_alloc::fail_after(None);
    let (given_back, digest) = (run.close(&books), run.dice.digest());
    drop(run);
    lazy::reset();
    let rechosen =
        lazy::choose(chosen.0, chosen.1).map_err(|Busy| wrong!("the model can't be what it was"));
    result?;
    given_back
        .and(rechosen)
        .and_then(|()| verdict())
        .map_err(stopped(steps + 1))?;
    Ok(Done {
        digest,
        warnings: messages::by_design(),
    })
}

impl Run {
    /// The hands of the `part`-th of so many tasks, empty.
    pub(super) fn new(mut dice: Dice, part: usize, tasks: usize) -> Result<Box<Self>, Wrong> {
        let leaves = Leaves::new(part, &mut dice)?;
        let alone = tasks == 1;
        // Small parts of what there is, and no more than that on a large machine: nothing fails
        // for want of memory but what is made to.
        let free = page_alloc::stats().free / tasks as u64;
        Ok(Box::new(Self {
            dice,
            sections: Sections::default(),
            areas: Areas::new((free / 4).min(4096), alone),
            pages: Pages::new((free / 8).min(2048), alone),
            mappings: Mappings::new(alone),
            leaves,
            alone,
            violations: judge::violations(),
        }))
    }

    /// One operation.
    pub(super) fn step(&mut self) -> Result<(), Wrong> {
        let Self {
            dice,
            sections,
            areas,
            pages,
            mappings,
            leaves,
            alone,
            ..
        } = self;
        let operation = dice.below(256);
        dice.note(operation);
        match operation {
            0..22 => areas.make(dice),
            22..44 => areas.free(dice),
            44..84 => areas.check(dice),
            84..88 => match areas.one(dice) {
                Some(area) => protect::change(area, dice),
                None => Ok(()),
            },
            88 => match areas.one(dice) {
                Some(area) if area.permissions.is_some() => protect::execute(area, dice),
                _ => Ok(()),
            },
            89..91 => areas.split(dice),
            91..102 => pages.allocate(dice),
            102..114 => pages.free(dice),
            114 => pages.split(dice),
            115..117 => pages.take_out(dice),
            117..124 => mappings.map(pages, dice),
            124..131 => mappings.unmap(pages, dice),
            131..152 => mappings.check(pages, dice),
            152 => {
                vmalloc::vm_unmap_aliases();
                Ok(())
            }
            153 if dice.one_in(2) => areas.misuse(dice),
            153 => pages.misuse(dice),
            154 if sections.is_empty() && *alone => {
                let (model, backend) = (dice.pick(&Model::ALL), dice.pick(&Backend::ALL));
                dice.note((model as u64) << 8 | backend as u64);
                lazy::choose(model, backend)
                    .map_err(|Busy| wrong!("nothing is open, and the model can't be changed"))
            }
            154 => Ok(()),
            155..175 => {
                // A pause makes good what was put off; an enable does it no harm to be looked at
                // so.
                sections.open(dice);
                if !lazy::is_active() {
                    leaves.settle();
                }
                Ok(())
            }
            175..194 => {
                sections.close();
                leaves.settle();
                sections.check()
            }
            194 => {
                sections.close_all();
                leaves.settle();
                sections.check()
            }
            _ => leaves.step(sections, dice),
        }
    }

    /// What must hold after every operation.
    pub(super) fn look_around(&self) -> Result<(), Wrong> {
        verdict()?;
        let violations = judge::violations() - self.violations;
        ensure!(
            violations == 0,
            "{violations} violations of the architecture's rules"
        );
        Ok(())
    }

    /// The pages and the areas that it holds.
    pub(super) fn held(&self) -> (u64, usize) {
        let pages = self.areas.pages() + self.pages.held();
        (pages, self.areas.count() + self.mappings.count())
    }

    /// As [`look_around`](Self::look_around), and the books now and then.
    fn audit(&mut self, step: u64, books: &Books) -> Result<(), Wrong> {
        self.look_around()?;
        if step.is_multiple_of(AUDIT) {
            Books::purge_in_time();
            let (pages, areas) = self.held();
            books.check(pages, areas)?;
        }
        Ok(())
    }

    /// Closes every section, and gives everything back but what was there before the books.
    pub(super) fn give_back(&mut self) -> Result<(), Wrong> {
        self.sections.close_all();
        self.leaves.settle();
        let closed = self.sections.check();
        // Each is tried, whatever became of the one before it.
        let unmapped = self.mappings.unmap_all(&mut self.pages);
        let freed = self.areas.free_all().and(self.pages.free_all());
        closed.and(unmapped).and(freed)
    }

    /// Gives everything back, and closes the books.
    fn close(&mut self, books: &Books) -> Result<(), Wrong> {
        let balanced = self.give_back().and_then(|()| books.close());
        let leaves = self.leaves.give_back();
        balanced.and(leaves)
    }
}
