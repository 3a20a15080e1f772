//! The kernel command line: `name=value` words and `autorun="command; command"`.
//!
//! Values may be quoted. Of a parameter that is given twice the last counts, so that what a
//! person adds at the end of a command line wins. Nothing that is not known is passed over.

#[cfg(feature = "bugs")]
use crate::bug::Bug;
use crate::mm::lazy::{Backend, Model, PageTableLock};
use core::fmt;

/// What of the kernel's own mappings is read-only, and so how the linear map is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rodata {
    /// The image; the linear map is in the largest blocks that fit, and `set_memory_*` leaves the
    /// linear alias alone.
    On,
    /// Also the linear alias of whatever becomes read-only: a page-granular linear map.
    #[default]
    Full,
}

impl Rodata {
    /// The name by which a person chooses it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Full => "full",
        }
    }
}

/// Whether FEAT_ETS2 is counted on: what it makes needless is then left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ets2 {
    /// Where the CPU has it.
    #[default]
    Auto,
    /// Whatever the CPU says.
    Assume,
    /// Nowhere.
    Off,
}

impl Ets2 {
    /// The name by which a person chooses it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Assume => "assume",
            Self::Off => "off",
        }
    }

    /// Whether it is counted on, where the CPU has it or not.
    #[must_use]
    pub const fn counts_on(self, has: bool) -> bool {
        match self {
            Self::Auto => has,
            Self::Assume => true,
            Self::Off => false,
        }
    }
}

/// The parameters, with their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params<'a> {
    /// `model=`: the nesting rules.
    pub model: Model,
    /// `backend=`: what is deferred.
    pub backend: Backend,
    /// `debug_pagealloc=`: free pages leave the linear map.
    pub debug_pagealloc: bool,
    /// `page_poison=`: free pages are filled, and checked when they are allocated.
    pub page_poison: bool,
    /// `kasan=`: vmalloc space has a shadow.
    pub kasan: bool,
    /// `rodata=`: see there.
    pub rodata: Rodata,
    /// `ptlock=`: what keeps others out while a lazy section is open.
    pub ptlock: PageTableLock,
    /// `ets2=`: whether FEAT_ETS2 is counted on.
    pub ets2: Ets2,
    /// `asid_bits=`: ASIDs have 8 bits, whatever the CPU can do.
    pub narrow_asids: bool,
    /// `bug=`: the planted bug of this boot.
    #[cfg(feature = "bugs")]
    pub bug: Option<Bug>,
    /// `trace=`: the file on the host that takes every event.
    #[cfg(feature = "oracle")]
    pub trace: Option<&'a str>,
    /// `autorun=`: commands, separated by semicolons, that take the tour's place.
    pub autorun: Option<&'a str>,
    /// `monitor=`: somebody is at the console, so that commands are read from it when the rest is
    /// done. The host program says so; without it the console is never read.
    pub monitor: bool,
}

impl Default for Params<'_> {
    fn default() -> Self {
        Self {
            model: Model::default(),
            backend: Backend::Barriers,
            debug_pagealloc: true,
            page_poison: true,
            kasan: true,
            rodata: Rodata::default(),
            ptlock: PageTableLock::default(),
            ets2: Ets2::default(),
            narrow_asids: false,
            #[cfg(feature = "bugs")]
            bug: None,
            #[cfg(feature = "oracle")]
            trace: None,
            autorun: None,
            monitor: false,
        }
    }
}

impl fmt::Display for Params<'_> {
    /// As they would be written on a command line; all but `autorun` and `monitor`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on| if on { "on" } else { "off" };
        write!(
            f,
            "model={} backend={} ",
            self.model.name(),
            self.backend.name()
        )?;
        write!(f, "debug_pagealloc={} ", switch(self.debug_pagealloc))?;
        write!(f, "page_poison={} ", switch(self.page_poison))?;
        write!(
            f,
            "kasan={} rodata={} ptlock={} ets2={}",
            switch(self.kasan),
            self.rodata.name(),
            self.ptlock,
            self.ets2.name()
        )?;
        if self.narrow_asids {
            write!(f, " asid_bits=8")?;
        }
        #[cfg(feature = "bugs")]
        if let Some(bug) = self.bug {
            write!(f, " bug={}", bug.name())?;
        }
        Ok(())
    }
}

/// A parameter that has a list of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Model,
    Backend,
    DebugPagealloc,
    PagePoison,
    Kasan,
    Rodata,
    Ptlock,
    Ets2,
    AsidBits,
    #[cfg(feature = "bugs")]
    Bug,
    #[cfg(feature = "oracle")]
    Trace,
    Autorun,
    Monitor,
}

impl Name {
    const ALL: &[Self] = &[
        Self::Model,
        Self::Backend,
        Self::DebugPagealloc,
        Self::PagePoison,
        Self::Kasan,
        Self::Rodata,
        Self::Ptlock,
        Self::Ets2,
        Self::AsidBits,
        #[cfg(feature = "bugs")]
        Self::Bug,
        #[cfg(feature = "oracle")]
        Self::Trace,
        Self::Autorun,
        Self::Monitor,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Backend => "backend",
            Self::DebugPagealloc => "debug_pagealloc",
            Self::PagePoison => "page_poison",
            Self::Kasan => "kasan",
            Self::Rodata => "rodata",
            Self::Ptlock => "ptlock",
            Self::Ets2 => "ets2",
            Self::AsidBits => "asid_bits",
            #[cfg(feature = "bugs")]
            Self::Bug => "bug",
            #[cfg(feature = "oracle")]
            Self::Trace => "trace",
            Self::Autorun => "autorun",
            Self::Monitor => "monitor",
        }
    }

    /// The values that are known, as a person is told them.
    fn values(self) -> &'static [&'static str] {
        const MODELS: [&str; Model::ALL.len()] = {
            let mut names = [""; Model::ALL.len()];
            let mut n = 0;
            while n < names.len() {
                names[n] = Model::ALL[n].name();
                n += 1;
            }
            names
        };
        const BACKENDS: [&str; Backend::ALL.len()] = {
            let mut names = [""; Backend::ALL.len()];
            let mut n = 0;
            while n < names.len() {
                names[n] = Backend::ALL[n].name();
                n += 1;
            }
            names
        };
        const LOCKS: [&str; PageTableLock::ALL.len()] = {
            let mut names = [""; PageTableLock::ALL.len()];
            let mut n = 0;
            while n < names.len() {
                names[n] = PageTableLock::ALL[n].name();
                n += 1;
            }
            names
        };
        match self {
            Self::Model => &MODELS,
            Self::Backend => &BACKENDS,
            Self::Ptlock => &LOCKS,
            Self::DebugPagealloc | Self::PagePoison | Self::Kasan | Self::Monitor => &["on", "off"],
            Self::Rodata => &const { [Rodata::On.name(), Rodata::Full.name()] },
            Self::Ets2 => &const { [Ets2::Auto.name(), Ets2::Assume.name(), Ets2::Off.name()] },
            Self::AsidBits => &["auto", "8"],
            #[cfg(feature = "bugs")]
            Self::Bug => Bug::NAMES,
            #[cfg(feature = "oracle")]
            Self::Trace => &["the name of a file on the host"],
            Self::Autorun => &["\"command; command\""],
        }
    }
}

/// Why a command line is refused. Shown, it is the whole line that the contracts ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<'a> {
    /// There is no such parameter.
    UnknownName(&'a str),
    /// The parameter has no such value.
    UnknownValue(&'static str, &'a str, &'static [&'static str]),
    /// A known name without a value, text after a closing quote, or a quote that does not close.
    Malformed(&'a str),
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName(name) => {
                write!(f, "lull: unknown parameter '{name}'; known: ")?;
                list(f, Name::ALL.iter().map(|name| name.as_str()))
            }
            Self::UnknownValue(name, value, known) => {
                // As the host program names it.
                let upper = name.chars().map(|c| c.to_ascii_uppercase());
                f.write_str("lull: unknown ")?;
                upper
                    .into_iter()
                    .try_for_each(|c| fmt::Write::write_char(f, c))?;
                write!(f, " '{value}'; known: ")?;
                list(f, known.iter().copied())
            }
            Self::Malformed(word) => {
                write!(f, "lull: malformed parameter '{word}'; known: ")?;
                f.write_str("name=value, autorun=\"command; command\"")
            }
        }
    }
}

/// Words with commas between them.
fn list<'a>(f: &mut fmt::Formatter<'_>, words: impl Iterator<Item = &'a str>) -> fmt::Result {
    for (n, word) in words.enumerate() {
        write!(f, "{}{word}", if n == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl<'a> Params<'a> {
    /// Reads a command line.
    ///
    /// # Errors
    ///
    /// The first thing in it that is not known or not well-formed.
    pub fn parse(line: &'a str) -> Result<Self, Error<'a>> {
        let mut params = Self::default();
        let mut rest = line.trim_ascii_start();
        while !rest.is_empty() {
            let (word, after) = split_word(rest)?;
            params.set(word)?;
            rest = after.trim_ascii_start();
        }
        Ok(params)
    }

    fn set(&mut self, word: &'a str) -> Result<(), Error<'a>> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = *Name::ALL
            .iter()
            .find(|known| known.as_str() == name)
            .ok_or(Error::UnknownName(name))?;
        let value = value.ok_or(Error::Malformed(word))?;
        let value = value
            .strip_prefix('"')
            .and_then(|v| v.strip_suffix('"'))
            .unwrap_or(value);
        let unknown = Error::UnknownValue(name.as_str(), value, name.values());
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(unknown),
        };
        match name {
            Name::Model => self.model = Model::parse(value).map_err(|_| unknown)?,
            Name::Backend => {
                let known = Backend::ALL
                    .into_iter()
                    .find(|backend| backend.name() == value);
                self.backend = known.ok_or(unknown)?;
            }
            Name::DebugPagealloc => self.debug_pagealloc = switch()?,
            Name::PagePoison => self.page_poison = switch()?,
            Name::Kasan => self.kasan = switch()?,
            Name::Rodata => {
                self.rodata = match value {
                    "on" => Rodata::On,
                    "full" => Rodata::Full,
                    _ => return Err(unknown),
                };
            }
            Name::Ptlock => {
                let known = PageTableLock::ALL
                    .into_iter()
                    .find(|lock| lock.name() == value);
                self.ptlock = known.ok_or(unknown)?;
            }
            Name::Ets2 => {
                self.ets2 = match value {
                    "auto" => Ets2::Auto,
                    "assume" => Ets2::Assume,
                    "off" => Ets2::Off,
                    _ => return Err(unknown),
                };
            }
            Name::AsidBits => {
                self.narrow_asids = match value {
                    "auto" => false,
                    "8" => true,
                    _ => return Err(unknown),
                };
            }
            #[cfg(feature = "bugs")]
            Name::Bug => {
                let known = Bug::NAMES.iter().position(|name| *name == value);
                self.bug = Some(known.map(|index| Bug::ALL[index]).ok_or(unknown)?);
            }
            #[cfg(feature = "oracle")]
            Name::Trace if value.is_empty() => return Err(Error::Malformed(word)),
            #[cfg(feature = "oracle")]
            Name::Trace => self.trace = Some(value),
            Name::Autorun if value.trim_ascii().is_empty() => return Err(Error::Malformed(word)),
            Name::Autorun => self.autorun = Some(value),
            Name::Monitor => self.monitor = switch()?,
        }
        Ok(())
    }
}

/// The first word, which may have blanks inside of a quoted value, and what follows it.
fn split_word(text: &str) -> Result<(&str, &str), Error<'_>> {
    let blank = text
        .find(|c: char| c.is_ascii_whitespace())
        .unwrap_or(text.len());
    let Some(quote) = text[..blank].find('"') else {
        return Ok(text.split_at(blank));
    };
    let malformed = Error::Malformed(text[..blank].trim_end());
    // A quote opens a value, and nothing else.
    if !text[..quote].ends_with('=') {
        return Err(malformed);
    }
    let end = text[quote + 1..]
        .find('"')
        .map(|len| quote + 1 + len + 1)
        .ok_or(malformed)?;
    let (word, rest) = text.split_at(end);
    if rest.starts_with(|c: char| !c.is_ascii_whitespace()) {
        return Err(malformed);
    }
    Ok((word, rest))
}

#[cfg(test)]
mod tests;
