//! Which seeds are played, with how many operations, on which machines, and until when.

use crate::failure::{Failure, Result};
use crate::options::{Known, Options, VARIABLES, find};
use std::time::Duration;

/// Seeds, where nothing is said.
const SEEDS: u64 = 8;
/// Operations of a seed, where nothing is said: a few seconds.
const OPERATIONS: u64 = 10_000;

/// The variables that differ from seed to seed, unless they are set: what is deferred first, then
/// the nesting rules, then the CPU. The rest is as it always is: shadow and DEBUG_PAGEALLOC are on.
const VARIED: [&str; 3] = ["BACKEND", "MODEL", "CPU"];

/// One seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Its number, from 1 on.
    pub number: u64,
    /// Operations.
    pub operations: u64,
    /// The variables in which its machine differs from the others.
    changes: Vec<(&'static str, &'static str)>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// No seed is begun after so long.
    duration: Option<Duration>,
    /// Over all seeds.
    operations: u64,
    seeds: u64,
    /// Variables that are set, and so the same for each seed.
    fixed: Vec<&'static str>,
}

impl Plan {
    /// What the options ask for.
    ///
    /// # Errors
    /// If they ask for things that do not go together.
    pub fn new(options: &Options) -> Result<Self> {
        // Each is empty or a number that has been checked.
        let number = |name| options.get(name).parse::<u64>().ok();
        let (duration, operations, seeds) = (number("DURATION"), number("OPS"), number("SEEDS"));
        if duration.is_some() && (operations.is_some() || seeds.is_some()) {
            return Err(Failure::refused(
                "DURATION is how long to begin seeds, OPS and SEEDS are how many; known: either",
            ));
        }
        let fixed = VARIED
            .into_iter()
            .filter(|name| {
                let default = find(name).map(|variable| variable.default);
                default.is_some_and(|default| options.get(name) != default)
                    || std::env::var(name).is_ok_and(|value| !value.is_empty())
            })
            .collect();
        let (operations, seeds) = match (duration, operations, seeds) {
            (Some(_), ..) => (u64::MAX, u64::MAX / OPERATIONS),
            (None, None, seeds) => {
                let seeds = seeds.unwrap_or(SEEDS);
                (seeds * OPERATIONS, seeds)
            }
            (None, Some(operations), seeds) => (operations, seeds.unwrap_or(SEEDS.min(operations))),
        };
        if operations < seeds {
            return Err(Failure::refused(format!(
                "OPS={operations} is not one operation for each of SEEDS={seeds}; OPS is the sum \
                 over all seeds"
            )));
        }
        Ok(Self {
            duration: duration.map(Duration::from_secs),
            operations,
            seeds,
            fixed,
        })
    }

    /// Whether one more seed may begin after so long.
    pub fn goes_on(&self, elapsed: Duration) -> bool {
        self.duration.is_none_or(|duration| elapsed < duration)
    }

    /// The seeds, in order.
    pub fn seeds(&self) -> impl Iterator<Item = Seed> + Send + use<> {
        let plan = self.clone();
        (1..=plan.seeds).map(move |number| Seed {
            number,
            operations: plan.operations_of(number),
            changes: plan.changes(number),
        })
    }

    fn operations_of(&self, number: u64) -> u64 {
        if self.duration.is_some() {
            return OPERATIONS;
        }
        // The first few make up for what does not divide.
        let rest = self.operations % self.seeds;
        self.operations / self.seeds + u64::from(number <= rest)
    }

    /// The machine of a seed: the next backend with each seed, and the next model and CPU as well,
    /// with one more step after each round of those before them. So few seeds have some of each,
    /// and as many as there are combinations have each of them once.
    fn changes(&self, number: u64) -> Vec<(&'static str, &'static str)> {
        let seed = number - 1;
        let mut round = 1;
        let mut changes = Vec::new();
        for name in VARIED {
            let words = words(name);
            let step = if round == 1 {
                seed
            } else {
                seed + seed / round
            };
            let word = words[(step % words.len() as u64) as usize];
            round *= words.len() as u64;
            if !self.fixed.contains(&name) {
                changes.push((name, word));
            }
        }
        changes
    }
}

/// The values of a variable that has a list of them.
fn words(name: &str) -> &'static [&'static str] {
    match find(name).map(|variable| variable.known) {
        Some(Known::Words(words)) => words,
        _ => &[""],
    }
}

impl Seed {
    /// One on a machine that differs from the others in `changes`.
    pub fn new(number: u64, operations: u64, changes: Vec<(&'static str, &'static str)>) -> Self {
        Self {
            number,
            operations,
            changes,
        }
    }

    /// What the kernel is told to do.
    pub fn command(&self) -> String {
        format!("stress seed={} ops={}", self.number, self.operations)
    }

    /// The options of its machine.
    ///
    /// # Errors
    /// None: the values are known.
    pub fn options(&self, options: &Options) -> Result<Options> {
        let with =
            |options: Options, change: &(&'static str, &str)| options.with(change.0, change.1);
        self.changes.iter().try_fold(options.clone(), with)
    }

    /// What its machine is called.
    pub fn configuration(&self) -> String {
        if self.changes.is_empty() {
            return "as set".to_owned();
        }
        let word = |(name, value): &(&str, &str)| format!("{name}={value}");
        self.changes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// Time for it: a minute to begin with, for a busy host, and then what a slow one needs.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(60 + self.operations / 100)
    }

    /// How to see it again.
    pub fn again(&self, options: &Options) -> String {
        let mut words = vec!["make run".to_owned()];
        if options.get("BUG").is_empty() {
            words.push("ORACLE=1".to_owned());
        }
        let Ok(options) = self.options(options) else {
            return words.join(" ");
        };
        let mut append = options.get("APPEND").to_owned();
        append = format!("{append} autorun=\"{}\"", self.command());
        let others = ["APPEND", "DURATION", "OPS", "SEEDS", "V", "ORACLE"];
        let set = VARIABLES.iter().filter(|variable| {
            !others.contains(&variable.name) && options.get(variable.name) != variable.default
        });
        words.extend(
            set.map(|variable| format!("{}={}", variable.name, options.get(variable.name))),
        );
        words.push(format!("APPEND='{}'", append.trim_start()));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn options(set: &[(&str, &str)]) -> Options {
        let get = |name: &str| {
            set.iter()
                .find(|(other, _)| *other == name)
                .map(|(_, v)| (*v).to_owned())
        };
        Options::from(get).unwrap()
    }

    fn plan(set: &[(&str, &str)]) -> Result<Plan> {
        Plan::new(&options(set))
    }

    fn operations(set: &[(&str, &str)]) -> Vec<u64> {
        plan(set)
            .unwrap()
            .seeds()
            .map(|seed| seed.operations)
            .collect()
    }

    #[test]
    fn operations_are_the_sum_over_all_seeds() {
        assert_eq!(operations(&[]), [OPERATIONS; SEEDS as usize]);
        assert_eq!(operations(&[("SEEDS", "3")]), [OPERATIONS; 3]);
        assert_eq!(operations(&[("OPS", "11"), ("SEEDS", "4")]), [3, 3, 3, 2]);
        assert_eq!(operations(&[("OPS", "3")]), [1, 1, 1]);
        assert_eq!(
            operations(&[("OPS", "10000000"), ("SEEDS", "100")]),
            [100_000; 100]
        );
    }

    #[test]
    fn a_duration_ends_when_it_is_over_and_not_before() {
        let timed = plan(&[("DURATION", "5")]).unwrap();
        assert!(timed.goes_on(Duration::from_millis(4999)));
        assert!(!timed.goes_on(Duration::from_secs(5)));
        assert_eq!(timed.seeds().nth(1000).unwrap().operations, OPERATIONS);
        assert!(plan(&[]).unwrap().goes_on(Duration::from_secs(1 << 40)));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (set, why) in [
            (&[("DURATION", "5"), ("OPS", "5")][..], "known: either"),
            (&[("DURATION", "5"), ("SEEDS", "5")], "known: either"),
            (
                &[("OPS", "5"), ("SEEDS", "6")],
                "OPS is the sum over all seeds",
            ),
        ] {
            let failure = plan(set).unwrap_err();
            assert!(failure.reason.contains(why), "{failure}");
        }
    }

    #[test]
    fn a_few_seeds_have_some_of_each_configuration_and_many_have_all() {
        let plan = plan(&[]).unwrap();
        let of = |name: &str, count: u64| -> BTreeSet<&str> {
            let changes = (1..=count).flat_map(|number| plan.changes(number));
            changes
                .filter(|(other, _)| *other == name)
                .map(|(_, value)| value)
                .collect()
        };
        for name in VARIED {
            assert_eq!(of(name, 12).len(), words(name).len(), "{name}");
        }
        let all: usize = VARIED.iter().map(|name| words(name).len()).product();
        let distinct: BTreeSet<_> = (1..=all as u64)
            .map(|number| plan.changes(number))
            .collect();
        assert_eq!(distinct.len(), all);
    }

    #[test]
    fn a_variable_that_is_set_is_the_same_for_every_seed() {
        let options = options(&[("BACKEND", "tlbi"), ("KASAN", "off")]);
        for seed in Plan::new(&options).unwrap().seeds() {
            let of_seed = seed.options(&options).unwrap();
            assert_eq!(
                (of_seed.get("BACKEND"), of_seed.get("KASAN")),
                ("tlbi", "off")
            );
            assert!(!seed.configuration().contains("BACKEND"));
        }
    }

    #[test]
    fn a_seed_says_how_to_see_it_again() {
        let options = options(&[("BACKEND", "tlbi"), ("MODEL", "strict"), ("OPS", "8")]);
        let seed = Plan::new(&options).unwrap().seeds().nth(1).unwrap();
        let again = seed.again(&options);
        let (cpu, rest) = (seed.options(&options).unwrap().get("CPU").to_owned(), again);
        let cpu = if cpu == "max" {
            String::new()
        } else {
            format!("CPU={cpu} ")
        };
        assert_eq!(
            rest,
            format!(
                "make run ORACLE=1 {cpu}MODEL=strict BACKEND=tlbi \
                 APPEND='autorun=\"stress seed=2 ops=1\"'"
            )
        );
    }
}
