//! What the kernel costs, briefly: nothing costs more than on the landed main, and what is measured
//! twice comes out the same.

use super::{Job, Suite};
use crate::bench::{self, Setting};
use crate::failure::Result;
use crate::workspace::Build;

impl Suite<'_> {
    /// A job for each of the two, where the image is the one that `make run` boots.
    pub(super) fn bench_jobs(&self) -> Vec<Job<'_>> {
        if self.build != Build::Plain {
            return Vec::new();
        }
        if let Some(name) = bench::other_profile() {
            let why = format!("{name} is set, so the image is another");
            self.report.skipped("bench-baseline", &why);
            self.report.skipped("bench-twice", &why);
            return Vec::new();
        }
        let job = |name: &'static str, test: fn(&Setting<'_>) -> Result| -> Job<'_> {
            Box::new(move || {
                let setting = Setting {
                    workspace: self.workspace,
                    options: self.options,
                    image: &self.image,
                };
                match test(&setting) {
                    Ok(()) => self.report.passed(name),
                    Err(failure) => self.report.failed(name, &failure.to_string(), None),
                }
            })
        };
        vec![
            job("bench-baseline", bench::short),
            job("bench-twice", bench::twice),
        ]
    }
}
