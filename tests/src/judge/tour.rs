//! Reads what the tour printed: a line a scene and the closing line, which must
//! agree.

use crate::options::{Options, VARIABLES};

/// What a scene said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scene {
    /// `scene NAME: ok`.
    Passed,
    /// `scene NAME: FAILED (why)`.
    Failed(String),
    /// `scene NAME: skipped (needs X=on)`.
    Skipped(String),
}

/// The scenes up to a closing line, or up to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tour {
    /// By name, in order.
    pub scenes: Vec<(String, Scene)>,
    /// The closing line, if there was one.
    pub closing: Option<String>,
}

/// Every tour in what a console printed.
pub fn parse(text: &str) -> Vec<Tour> {
    let mut tours = Vec::new();
    let mut tour = Tour::default();
    for line in text.lines().map(str::trim_end) {
        if let Some(scene) = scene_line(line) {
            tour.scenes.push(scene);
        } else if line
            .strip_prefix("tour: ")
            .is_some_and(|rest| rest.contains(" scenes, "))
        {
            tour.closing = Some(line.to_owned());
            tours.push(std::mem::take(&mut tour));
        }
    }
    if !tour.scenes.is_empty() {
        tours.push(tour);
    }
    tours
}

/// The scene and its verdict, if the line is one that gives it.
fn scene_line(line: &str) -> Option<(String, Scene)> {
    let (name, verdict) = line.strip_prefix("scene ")?.split_once(": ")?;
    let inside = |word: &str| {
        let rest = verdict.strip_prefix(word)?;
        Some(
            rest.trim()
                .trim_start_matches('(')
                .trim_end_matches(')')
                .to_owned(),
        )
    };
    let scene = if verdict == "ok" {
        Scene::Passed
    } else if let Some(why) = inside("FAILED") {
        Scene::Failed(why)
    } else {
        Scene::Skipped(inside("skipped")?)
    };
    Some((name.to_owned(), scene))
}

impl Tour {
    /// The first thing that is wrong with a tour that was played to its end under
    /// these options.
    pub fn first_problem(&self, options: &Options) -> Option<String> {
        let Some(closing) = &self.closing else {
            return Some("the tour has no closing line".to_owned());
        };
        let count = |wanted: fn(&Scene) -> bool| {
            self.scenes
                .iter()
                .filter(|(_, scene)| wanted(scene))
                .count()
        };
        for (place, (name, scene)) in self.scenes.iter().enumerate() {
            if self.scenes[..place].iter().any(|(other, _)| other == name) {
                return Some(format!("scene {name} has two verdicts"));
            }
            match scene {
                Scene::Passed => {}
                Scene::Failed(why) => return Some(format!("scene {name} failed: {why}")),
                Scene::Skipped(why) if may_skip(why, options) => {}
                Scene::Skipped(why) => {
                    return Some(format!("scene {name} was skipped without cause: {why}"));
                }
            }
        }
        let (all, passed) = (self.scenes.len(), count(|scene| *scene == Scene::Passed));
        let skipped = count(|scene| matches!(scene, Scene::Skipped(_)));
        let mut expected = format!("tour: {all} scenes, {passed} ok");
        if skipped > 0 {
            expected += &format!(", {skipped} skipped");
        }
        if all == 0 {
            return Some("the tour has no scenes".to_owned());
        }
        // One scene may be called one scene.
        let said = closing.replacen("1 scene, ", "1 scenes, ", 1);
        (said != expected).then(|| format!("the scenes make '{expected}', not '{closing}'"))
    }
}

/// Whether what a skipped scene needs is really not there: of the `NAME=value`
/// in its reason at least one is an option that has another value.
fn may_skip(why: &str, options: &Options) -> bool {
    why.split([' ', ','])
        .filter_map(|word| word.split_once('='))
        .any(|(name, value)| {
            VARIABLES
                .iter()
                .find(|variable| variable.name.eq_ignore_ascii_case(name))
                .is_some_and(|variable| options.get(variable.name) != value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(set: &[(&'static str, &str)]) -> Options {
        let defaults = Options::from(|_| None).unwrap();
        set.iter().fold(defaults, |all, (name, value)| {
            all.with(name, value).unwrap()
        })
    }

    fn problem(text: &str, set: &[(&'static str, &str)]) -> Option<String> {
        let tours = parse(text);
        assert_eq!(tours.len(), 1, "{tours:?}");
        tours[0].first_problem(&options(set))
    }

    #[test]
    fn a_tour_whose_lines_agree_passes() {
        let text = "hello\r\nscene layout: ok\r\nscene pause: a chain\r\nscene pause: ok\r\n\
                    tour: 2 scenes, 2 ok\r\n";
        assert_eq!(problem(text, &[]), None);
    }

    #[test]
    fn a_scene_may_be_skipped_only_for_what_is_not_there() {
        let text = "scene a: ok\nscene catch: skipped (needs DEBUG_PAGEALLOC=on)\n\
                    tour: 2 scenes, 1 ok, 1 skipped\n";
        assert_eq!(problem(text, &[("DEBUG_PAGEALLOC", "off")]), None);
        assert!(problem(text, &[]).unwrap().contains("without cause"));
        assert!(
            problem(text, &[("KASAN", "off")])
                .unwrap()
                .contains("without cause")
        );
        let lower = text.replace("DEBUG_PAGEALLOC", "debug_pagealloc");
        assert_eq!(problem(&lower, &[("DEBUG_PAGEALLOC", "off")]), None);
    }

    #[test]
    fn every_disagreement_is_a_problem() {
        for (text, part) in [
            (
                "scene a: FAILED (2 DSB, not 1)\ntour: 1 scenes, 0 ok\n",
                "a failed: 2 DSB, not 1",
            ),
            (
                "scene a: ok\nscene b: ok\ntour: 3 scenes, 3 ok\n",
                "2 scenes, 2 ok",
            ),
            (
                "scene a: ok\nscene a: ok\ntour: 2 scenes, 2 ok\n",
                "two verdicts",
            ),
            (
                "scene a: ok\ntour: 1 scenes, 1 ok, 1 skipped\n",
                "1 scenes, 1 ok",
            ),
            ("scene a: ok\n", "no closing line"),
            ("tour: 0 scenes, 0 ok\n", "no scenes"),
        ] {
            let problem = problem(text, &[]).unwrap_or_default();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn tours_follow_one_another() {
        let tours = parse("scene a: ok\ntour: 1 scenes, 1 ok\nscene a: ok\ntour: 1 scenes, 1 ok\n");
        assert_eq!(tours.len(), 2);
        assert!(
            tours
                .iter()
                .all(|tour| tour.first_problem(&options(&[])).is_none())
        );
    }
}
