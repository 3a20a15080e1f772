//! The table for people.

use super::{
    limits::{self, Judged},
    linux,
    measurement::Measurement,
};

/// How many limits held, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub met: usize,
    pub over: usize,
}

impl Summary {
    /// Counts a figure in, and says in a word how it was.
    pub fn add(&mut self, judged: &Judged) -> &'static str {
        if judged.is_met() {
            self.met += 1;
            "met"
        } else {
            self.over += 1;
            "over"
        }
    }
}

/// Prints the table.
pub fn print(measured: &[Measurement], figures: &[Measurement]) -> Summary {
    println!(
        "{:46} {:>11} {:>22} {:>7} {:>11} {:>5} {:>11} {:>5}  limit",
        "a round", "insn", "DSB/ISB/TLBI", "beyond", "linux a/ap", "ratio", "linux b", "ratio"
    );
    let mut summary = Summary::default();
    for measurement in measured {
        println!("{}", row(measurement, figures, &mut summary));
    }
    summary
}

fn row(measurement: &Measurement, figures: &[Measurement], summary: &mut Summary) -> String {
    let barriers = measurement
        .barriers
        .map(|[dsb, isb, tlbi]| format!("{}/{}/{}", short(dsb), short(isb), short(tlbi)));
    let beyond = measurement.beyond.map(|[pages, all]| {
        if all > 0.0 {
            "all".to_owned()
        } else {
            short(pages)
        }
    });
    let mut row = format!(
        "{:46} {:>11} {:>22} {:>7}",
        measurement.key.to_string(),
        format!("{:.1}", measurement.comparable()),
        barriers.unwrap_or_default(),
        beyond.unwrap_or_default(),
    );
    let kernels = linux::kernels(&measurement.key);
    for index in 0..2 {
        let figure = kernels
            .get(index)
            .and_then(|kernel| linux::like(figures, kernel, &measurement.key));
        row += &match figure {
            Some(figure) => format!(
                " {:>11} {:>5.2}",
                short(figure.insn),
                figure.insn / measurement.comparable().max(0.01)
            ),
            None => format!(" {:>11} {:>5}", "", ""),
        };
    }
    for judged in limits::judge(measurement) {
        let word = summary.add(&judged);
        row += &format!("  {} {} {word}", judged.what, short(judged.most));
    }
    row.trim_end().to_owned()
}

/// A number with no more decimals than it needs: two at most.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_linux_beside_it_and_its_limits() {
        let line = r#"{"case":"vmalloc_pair","n":1,"kernel":"lull","memory":"fresh","debug_pagealloc":false,"kasan":false,"backend":"barriers","insn":1400.5,"dsb":1.0005,"isb":1,"tlbi":0.001,"beyond":1,"all":0}"#;
        let measured = Measurement::parse(line, "max").unwrap();
        let mut summary = Summary::default();
        let row = row(&measured, &linux::figures().unwrap(), &mut summary);
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "vmalloc_pair",
                "n=1",
                "1400.5",
                "1/1/0",
                "1",
                "2801",
                "2.00",
                "2864",
                "2.04",
                "insn",
                "560",
                "over"
            ]
        );
        assert_eq!(summary, Summary { met: 0, over: 1 });
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<_> = [0.0, 1.0, 1.5, 0.004, 100.0, 1.999].map(short).into();
        assert_eq!(shown, ["0", "1", "1.5", "0", "100", "2"]);
    }
}
