//! Puts names to addresses: where the kernel prints `[<ffff800040201234>]`, the
//! function and the file and line follow it.

use addr2line::gimli::{Dwarf, EndianSlice, RunTimeEndian, SectionId};
use addr2line::{Context, demangle_auto};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// The image's addresses less those that it is loaded at.
const IMAGE_OFFSET: u64 = 0xffff_8000_0000_0000;
/// An address below this is one from before the MMU was on.
const END_OF_PHYSICAL: u64 = 1 << 47;

/// The bytes of the image, which stay for as long as this program runs.
type Bytes = EndianSlice<'static, RunTimeEndian>;

/// The names in an image. It is read when the first name is wanted, which in a
/// run that goes well is never.
pub struct Symbols {
    /// The image.
    image: PathBuf,
    /// What paths of source files are shown relative to.
    root: PathBuf,
    /// What was read; `None` where the image cannot be read.
    tables: OnceCell<Option<Tables>>,
}

/// The tables of an image.
struct Tables {
    /// The debug information.
    context: Context<Bytes>,
    /// Functions by address, with their sizes; those in assembly are only here.
    functions: Vec<(u64, u64, &'static str)>,
}

impl Symbols {
    /// The names in that image, with paths relative to `root`.
    pub fn new(image: &Path, root: &Path) -> Self {
        Self {
            image: image.to_owned(),
            root: root.to_owned(),
            tables: OnceCell::new(),
        }
    }

    /// What is at an address, as `function file:line`, with the functions that it
    /// was inlined into.
    pub fn describe(&self, address: u64) -> Option<String> {
        let address = if address < END_OF_PHYSICAL {
            address + IMAGE_OFFSET
        } else {
            address
        };
        let tables = self
            .tables
            .get_or_init(|| Tables::read(&self.image))
            .as_ref()?;
        let frames = tables.frames(address, &self.root);
        let Some(outermost) = frames.last() else {
            return tables.function(address);
        };
        // What was inlined in between, and the library's own frames, make a line of many that says
        // less: where it is in the project's code, and in which function.
        let ours = |frame: &&String| !frame.contains(" library/");
        match frames.iter().find(ours) {
            Some(inner) if inner != outermost => Some(format!("{inner}, inlined in {outermost}")),
            _ => Some(outermost.clone()),
        }
    }

    /// The function of the image that an address is in, and the function of the source, inlined or not,
    /// with its file.
    pub fn functions(&self, address: u64) -> Option<(String, String)> {
        let address = if address < END_OF_PHYSICAL {
            address + IMAGE_OFFSET
        } else {
            address
        };
        let tables = self
            .tables
            .get_or_init(|| Tables::read(&self.image))
            .as_ref()?;
        let symbol = tables.function(address)?;
        let name = symbol.split_once('+').map_or(&*symbol, |(name, _)| name);
        let outer = without_hash(&demangle_auto(name.into(), None)).to_owned();
        let frames = tables.frames(address, &self.root);
        let inner = frames.first().map(|frame| {
            let place = frame.rsplit_once(':').map_or(&**frame, |(place, _)| place);
            place.to_owned()
        });
        Some((outer.clone(), inner.unwrap_or(outer)))
    }

    /// Where a function begins.
    pub fn address_of(&self, function: &str) -> Option<u64> {
        let tables = self
            .tables
            .get_or_init(|| Tables::read(&self.image))
            .as_ref()?;
        let found = tables
            .functions
            .iter()
            .find(|(_, _, name)| *name == function);
        found.map(|(start, ..)| *start)
    }
}

impl Tables {
    /// Reads an image, if it is an ELF file with sound debug information.
    fn read(image: &Path) -> Option<Self> {
        let data: &'static [u8] = std::fs::read(image).ok()?.leak();
        let file = object::File::parse(data).ok()?;
        let load = |id: SectionId| -> Result<Bytes, object::Error> {
            let section = file.section_by_name(id.name());
            let bytes = section.map_or(Ok(&[][..]), |section| section.data())?;
            Ok(EndianSlice::new(bytes, RunTimeEndian::Little))
        };
        let context = Context::from_dwarf(Dwarf::load(load).ok()?).ok()?;
        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.is_definition() && symbol.kind() != SymbolKind::Section)
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
            // Mapping symbols ($x, $d) say what the bytes are, not whose.
            .filter(|(_, _, name)| !name.is_empty() && !name.starts_with('$'))
            .collect();
        functions.sort_unstable();
        Some(Self { context, functions })
    }

    /// The frames at an address, innermost first.
    fn frames(&self, address: u64, root: &Path) -> Vec<String> {
        let mut shown = Vec::new();
        let Ok(mut frames) = self.context.find_frames(address).skip_all_loads() else {
            return shown;
        };
        while let Ok(Some(frame)) = frames.next() {
            let Some(name) = frame
                .function
                .as_ref()
                .and_then(|name| name.demangle().ok())
            else {
                continue;
            };
            let place = frame.location.and_then(|location| {
                Some(format!(
                    " {}:{}",
                    short(location.file?, root),
                    location.line?
                ))
            });
            shown.push(format!(
                "{}{}",
                without_hash(&name),
                place.unwrap_or_default()
            ));
        }
        shown
    }

    /// The function that an address is in, by the symbol table alone. A label in
    /// assembly may have no size; then it goes on to the next.
    fn function(&self, address: u64) -> Option<String> {
        let next = self
            .functions
            .partition_point(|(start, _, _)| *start <= address);
        let (start, size, name) = *self.functions.get(next.checked_sub(1)?)?;
        let inside = if size == 0 {
            next < self.functions.len()
        } else {
            address < start + size
        };
        inside.then(|| format!("{name}+{:#x}", address - start))
    }
}

/// A legacy-mangled name without the hash that tells two compilations apart.
pub fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((rest, hash)) if hash.len() == 16 && is_hex(hash.as_bytes()) => rest,
        _ => name,
    }
}

/// A path as a reader would write it: relative to the project, or from the crate
/// or the library on.
fn short(path: &str, root: &Path) -> String {
    if let Ok(inside) = Path::new(path).strip_prefix(root) {
        return inside.display().to_string();
    }
    // .../registry/src/INDEX/crate-1.0.0/src/lib.rs; /rustc/HASH/library/core/...
    for (mark, levels) in [
        ("/registry/src/", 1),
        ("/rustc/", 1),
        ("/rustlib/src/rust/", 0),
    ] {
        if let Some((_, rest)) = path.split_once(mark)
            && let Some(rest) = rest.splitn(levels + 1, '/').nth(levels)
        {
            return rest.to_owned();
        }
    }
    path.to_owned()
}

/// Whether all of it is lower-case hexadecimal.
fn is_hex(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Passes a console through, byte by byte as it comes, and puts a name after each
/// `[<address>]`.
pub struct Names {
    /// Where the names are from.
    symbols: Symbols,
    /// The line so far.
    line: Vec<u8>,
}

/// The length of `[<0123456789abcdef>]`.
const MARK: usize = 20;

impl Names {
    /// A filter that takes its names from there.
    pub fn new(symbols: Symbols) -> Self {
        Self {
            symbols,
            line: Vec::new(),
        }
    }

    /// Takes what the console printed and adds what is to be shown to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            out.push(*byte);
            if *byte == b'\n' {
                self.line.clear();
                continue;
            }
            self.line.push(*byte);
            if let Some((address, returns)) = address_at_end(&self.line) {
                // A return address is that of the instruction after the call,
                // which may be on another line or in another function.
                let place = if returns {
                    address.wrapping_sub(1)
                } else {
                    address
                };
                let name = self.symbols.describe(place);
                out.push(b' ');
                out.extend_from_slice(name.as_deref().unwrap_or("?").as_bytes());
            }
        }
    }
}

/// The address that the line ends in, if it ends in one, and whether it is a return
/// address: so it is after `lr :`. Call traces name the calls themselves.
fn address_at_end(line: &[u8]) -> Option<(u64, bool)> {
    let start = line.len().checked_sub(MARK)?;
    let hex = line[start..].strip_prefix(b"[<")?.strip_suffix(b">]")?;
    if !is_hex(hex) {
        return None;
    }
    let address = u64::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
    let before = line[..start].trim_ascii_end();
    let before = before.strip_suffix(b":").unwrap_or(before).trim_ascii_end();
    Some((address, before.ends_with(b"lr")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_at_the_end_of_the_line_so_far() {
        assert_eq!(
            address_at_end(b"  [<ffff800040201234>]"),
            Some((0xffff_8000_4020_1234, false))
        );
        assert_eq!(
            address_at_end(b"pc : [<ffff800040201234>]"),
            Some((0xffff_8000_4020_1234, false))
        );
        assert_eq!(
            address_at_end(b"pc : [<ffff800040201234>] x lr : [<ffff800040201238>]"),
            Some((0xffff_8000_4020_1238, true))
        );
        for none in [
            "[<ffff80004020123>]",
            "[<ffff80004020123g>]",
            "<ffff800040201234>]",
            "",
        ] {
            assert_eq!(address_at_end(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn bytes_pass_at_once_and_unchanged() {
        let mut names = Names::new(Symbols::new(Path::new("/nonexistent"), Path::new("/")));
        let mut out = Vec::new();
        names.push(b"prompt> \xff", &mut out);
        assert_eq!(out, b"prompt> \xff");
        names.push(b"\r\n[<ffff8000402", &mut out);
        names.push(b"01234>] and on\n", &mut out);
        assert_eq!(out, b"prompt> \xff\r\n[<ffff800040201234>] ? and on\n");
    }

    #[test]
    fn paths_are_short_and_name_no_machine() {
        let root = Path::new("/src/lull");
        for (long, brief) in [
            ("/src/lull/kernel/src/main.rs", "kernel/src/main.rs"),
            (
                "/any/.cargo/registry/src/index-1/spin-0.12.3/src/lib.rs",
                "spin-0.12.3/src/lib.rs",
            ),
            (
                "/rustc/59807616e/library/core/src/fmt/mod.rs",
                "library/core/src/fmt/mod.rs",
            ),
            (
                "/t/lib/rustlib/src/rust/library/core/src/x.rs",
                "library/core/src/x.rs",
            ),
            ("/elsewhere/x.rs", "/elsewhere/x.rs"),
        ] {
            assert_eq!(short(long, root), brief);
        }
    }

    #[test]
    fn a_name_loses_its_hash_only() {
        assert_eq!(
            without_hash("kernel::mm::map::h0123456789abcdef"),
            "kernel::mm::map"
        );
        assert_eq!(without_hash("kernel::mm::hash"), "kernel::mm::hash");
    }

    #[test]
    fn this_program_can_be_described() {
        // Its own image, which has debug information as the kernel's has.
        let image = std::env::current_exe().unwrap();
        let tables = Tables::read(&image);
        // Not every host has ELF files; where it has, the tables are sound.
        if let Some(tables) = tables {
            let (start, _, _) = *tables
                .functions
                .iter()
                .find(|(_, size, name)| *size > 0 && name.contains("address_at_end"))
                .unwrap();
            let frames = tables.frames(start, Path::new("/"));
            assert!(frames[0].contains("address_at_end"), "{frames:?}");
            assert!(frames[0].contains("symbols.rs:"), "{frames:?}");
            assert!(tables.function(start + 4).unwrap().ends_with("+0x4"));
        }
    }
}
