//! The tour under each configuration: every known value of every variable that
//! changes the machine or the kernel, once, against the defaults.

use super::{Job, LIMIT, Suite};
use crate::failure::{Failure, Result};
use crate::judge::{self, tour};
use crate::machine::{Boot, Machine};
use crate::options::{For, Known, Options, VARIABLES, Variable};
use std::sync::OnceLock;

/// Sizes of RAM that the tour is played with, beside the default.
const MEMORY: &[&str] = &["64M", "8G"];
/// Numbers of CPUs that it is played on.
const CPUS: &[&str] = &["1", "2", "4", "8"];
/// What the kernel says where it is entered at EL3.
const AT_EL3: &str = "entered at EL3; Lull needs EL1 or EL2";

/// One configuration: what differs from the defaults.
type Configuration = Vec<(&'static str, String)>;

/// Every configuration, the defaults first.
fn configurations() -> Vec<Configuration> {
    let mut all = vec![Vec::new()];
    for variable in VARIABLES {
        let with = |value| vec![(variable.name, value)];
        all.extend(others(variable.name).into_iter().map(with));
    }
    // Tasks on several CPUs, their interrupts, and who starts them.
    for (cpus, gic, el) in [("2", "2", "1"), ("4", "2", "2"), ("8", "3", "2")] {
        let words = [("SMP", cpus), ("GIC", gic), ("EL", el)];
        all.push(words.map(|(name, value)| (name, value.to_owned())).to_vec());
    }
    // Only with both is the linear map made of blocks.
    all.push(vec![
        ("DEBUG_PAGEALLOC", "off".to_owned()),
        ("RODATA", "on".to_owned()),
    ]);
    // The rules of nesting and what is deferred meet in every scene.
    for model in others("MODEL") {
        let with = |backend| vec![("MODEL", model.clone()), ("BACKEND", backend)];
        all.extend(others("BACKEND").into_iter().map(with));
    }
    all
}

/// The values of a variable but for its default.
fn others(name: &str) -> Vec<String> {
    let variable = VARIABLES.iter().find(|variable| variable.name == name);
    variable
        .into_iter()
        .flat_map(|variable| {
            let values = values(variable).iter();
            values.filter(|value| **value != variable.default)
        })
        .map(|value| (*value).to_owned())
        .collect()
}

/// The values of a variable that change a tour.
fn values(variable: &Variable) -> &'static [&'static str] {
    match variable.known {
        Known::Words(_) if matches!(variable.name, "V" | "BUG" | "FORMAT" | "ORACLE") => &[],
        Known::Words(_) if variable.name == "SMP" => CPUS,
        Known::Words(words) => words,
        Known::Memory => MEMORY,
        Known::Port | Known::Count | Known::Text => &[],
    }
}

/// The full product of the values of all variables, but for those in `fixed`. EL=3 is no tour.
fn product(fixed: &[&str]) -> Vec<Configuration> {
    let mut all: Vec<Configuration> = vec![Vec::new()];
    for variable in VARIABLES
        .iter()
        .filter(|variable| !fixed.contains(&variable.name))
    {
        let mut values: Vec<_> = values(variable)
            .iter()
            .filter(|value| (variable.name, **value) != ("EL", "3"))
            .collect();
        if values.is_empty() {
            continue;
        }
        if matches!(variable.known, Known::Memory) {
            values.push(&variable.default);
        }
        let one_more = |configuration: Configuration| {
            values.iter().map(move |value| {
                let mut longer = configuration.clone();
                longer.push((variable.name, (**value).to_owned()));
                longer
            })
        };
        all = all.into_iter().flat_map(one_more).collect();
    }
    all
}

/// What a configuration is called.
fn name(configuration: &Configuration) -> String {
    if configuration.is_empty() {
        return "tour-defaults".to_owned();
    }
    let words: Vec<_> = configuration
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("tour-{}", words.join("+"))
}

impl Suite<'_> {
    /// A job a configuration. The first, under the defaults, says which scenes
    /// there are; so it is played before the others.
    pub(super) fn tour_jobs(&self) -> Vec<Job<'_>> {
        self.tours_of(configurations())
    }

    /// A job for each configuration of the full product, but for the variables that a person
    /// has fixed.
    pub(super) fn matrix_jobs(&self, fixed: &[&str]) -> Vec<Job<'_>> {
        self.tours_of(product(fixed))
    }

    pub(super) fn tours_of(&self, configurations: Vec<Configuration>) -> Vec<Job<'_>> {
        let scenes = std::sync::Arc::new(OnceLock::new());
        configurations
            .into_iter()
            .map(|configuration| -> Job<'_> {
                let scenes = std::sync::Arc::clone(&scenes);
                Box::new(move || {
                    let name = self.name(&name(&configuration));
                    let verdict = self.tour(&name, &configuration, &scenes);
                    self.verdict(&name, &verdict);
                })
            })
            .collect()
    }

    /// Plays the tour under one configuration.
    fn tour(
        &self,
        name: &str,
        configuration: &Configuration,
        scenes: &OnceLock<Vec<String>>,
    ) -> Result {
        let mut options = self.options.clone();
        for (variable, value) in configuration {
            options = options.with(variable, value)?;
        }
        let machine = Machine::new(&options, &self.image);
        let boot = machine.boot_logged(LIMIT, &self.workspace.root, &self.log(name))?;
        verdict(&boot, &options)?;
        if options.get("EL") != "3" {
            self.watched(&boot)?;
        }
        same_scenes(&boot, &options, scenes)
    }
}

/// The verdict on one tour under its options.
fn verdict(boot: &Boot, options: &Options) -> Result {
    if options.get("EL") == "3" {
        return judge::expected_failure(boot, AT_EL3);
    }
    judge::run(boot, options, true)?;
    let defaults = VARIABLES.iter().all(|variable| {
        variable.whose == For::Host || options.get(variable.name) == variable.default
    });
    let skipped = tour::parse(&boot.text)
        .into_iter()
        .flat_map(|tour| tour.scenes)
        .find(|(_, scene)| matches!(scene, tour::Scene::Skipped(_)));
    match skipped {
        Some((scene, _)) if defaults => Err(Failure::fail(format!(
            "scene {scene} was skipped with default parameters"
        ))),
        _ => Ok(()),
    }
}

/// Every configuration has the scenes that the first one had, skipped or not.
fn same_scenes(boot: &Boot, options: &Options, known: &OnceLock<Vec<String>>) -> Result {
    if options.get("EL") == "3" {
        return Ok(());
    }
    let tours = tour::parse(&boot.text);
    let names: Vec<_> = tours
        .iter()
        .flat_map(|tour| &tour.scenes)
        .map(|(name, _)| name.clone())
        .collect();
    let expected = known.get_or_init(|| names.clone());
    if names == *expected {
        return Ok(());
    }
    Err(Failure::fail(format!(
        "the scenes were {}, not {}",
        names.join(" "),
        expected.join(" ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Ending;

    #[test]
    fn every_value_of_every_variable_is_played_once() {
        let all: Vec<_> = configurations().iter().map(name).collect();
        for expected in [
            "tour-defaults",
            "tour-CPU=cortex-a53",
            "tour-CPU=neoverse-n1",
            "tour-EL=2",
            "tour-EL=3",
            "tour-MEM=64M",
            "tour-MEM=8G",
            "tour-GIC=2",
            "tour-DEBUG_PAGEALLOC=off",
            "tour-RODATA=on",
            "tour-KASAN=off",
            "tour-PAGE_POISON=off",
            "tour-BACKEND=eager",
            "tour-BACKEND=stores",
            "tour-MODEL=strict+BACKEND=tlbi",
            "tour-MODEL=nesting-level+BACKEND=stores",
            "tour-MODEL=strict",
            "tour-MODEL=tolerant",
            "tour-MODEL=avoid",
            "tour-MODEL=token",
            "tour-MODEL=nesting-level",
            "tour-DEBUG_PAGEALLOC=off+RODATA=on",
            "tour-SMP=2",
            "tour-SMP=4",
            "tour-SMP=8",
            "tour-SMP=4+GIC=2+EL=2",
        ] {
            assert_eq!(
                all.iter().filter(|name| *name == expected).count(),
                1,
                "{expected}"
            );
        }
        assert!(
            !all.iter()
                .any(|name| name.contains("=max") || name.contains("V="))
        );
        let options = Options::from(|_| None).unwrap();
        for (variable, value) in configurations().concat() {
            assert!(options.with(variable, &value).is_ok(), "{variable}={value}");
        }
    }

    #[test]
    fn the_product_has_every_combination_of_what_is_not_fixed() {
        let all_but = |kept: &[&str]| -> Vec<&str> {
            let names = VARIABLES.iter().map(|variable| variable.name);
            names.filter(|name| !kept.contains(name)).collect()
        };
        let two = product(&all_but(&["MODEL", "BACKEND"]));
        assert_eq!(two.len(), 6 * 6);
        assert!(two.iter().all(|configuration| configuration.len() == 2));
        assert_eq!(product(&all_but(&["EL"])).len(), 2);
        assert_eq!(product(&all_but(&["MEM"])).len(), 3);
        assert_eq!(product(&all_but(&[])).len(), 1);
    }

    #[test]
    fn el3_is_a_message_and_a_status() {
        let options = Options::from(|_| None).unwrap().with("EL", "3").unwrap();
        let boot = |status, text: &str| Boot {
            ending: Ending::Status(status),
            text: text.to_owned(),
        };
        assert_eq!(verdict(&boot(judge::FAILURE, AT_EL3), &options), Ok(()));
        assert!(verdict(&boot(judge::FAILURE, ""), &options).is_err());
        assert!(verdict(&boot(judge::SUCCESS, AT_EL3), &options).is_err());
    }

    #[test]
    fn the_scenes_are_the_same_under_every_configuration() {
        let known = OnceLock::new();
        let options = Options::from(|_| None).unwrap();
        let boot = |text: &str| Boot {
            ending: Ending::Status(16),
            text: text.to_owned(),
        };
        let (two, one) = (boot("scene a: ok\nscene b: ok\n"), boot("scene a: ok\n"));
        assert_eq!(same_scenes(&two, &options, &known), Ok(()));
        assert_eq!(same_scenes(&two, &options, &known), Ok(()));
        assert!(same_scenes(&one, &options, &known).is_err());
    }
}
