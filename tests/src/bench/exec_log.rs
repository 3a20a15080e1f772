//! QEMU's log of what it executes (`-d in_asm,exec,nochain`), as a sequence of blocks of
//! instructions.
//!
//! QEMU translates a stretch of guest code without branches into a block, and logs it when it does,
//! an instruction a line. Each time it executes a block it logs a line as well, which names the block
//! by where its translation is. Without chaining no execution is left out.

use std::collections::HashMap;

/// A block: the address of its first instruction, and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub start: u64,
    pub instructions: u64,
}

/// Reads the log line by line.
#[derive(Debug, Default)]
pub struct Reader {
    /// Every block, in the order in which they were translated.
    blocks: Vec<Block>,
    /// The number of the block whose translation is at a place.
    places: HashMap<u64, usize>,
    /// The block that was translated last, as far as it has been read.
    translated: Option<Block>,
    /// The next line of an instruction is the first of a block.
    at_start: bool,
}

impl Reader {
    /// Takes a line, and gives the number of the block if it says that one is executed.
    pub fn line(&mut self, line: &[u8]) -> Option<usize> {
        if let Some(rest) = line.strip_prefix(b"Trace ") {
            return self.executed(rest);
        }
        if line.starts_with(b"IN:") {
            self.at_start = true;
        } else if let Some(rest) = line.strip_prefix(b"0x") {
            let (address, _) = hexadecimal(rest)?;
            match &mut self.translated {
                Some(block) if !self.at_start => block.instructions += 1,
                _ => {
                    self.translated = Some(Block {
                        start: address,
                        instructions: 1,
                    });
                }
            }
            self.at_start = false;
        }
        None
    }

    /// The block of that number.
    pub fn block(&self, number: usize) -> Block {
        self.blocks[number]
    }

    /// `0: 0x7f13c0000100 [cs_base/pc/flags/cflags] symbol`.
    fn executed(&mut self, rest: &[u8]) -> Option<usize> {
        let (place, rest) = hexadecimal(rest.strip_prefix(b"0: 0x")?)?;
        if let Some(block) = self.translated {
            let (_, rest) = hexadecimal(rest.strip_prefix(b" [")?)?;
            let (pc, _) = hexadecimal(rest.strip_prefix(b"/")?)?;
            // A place can be used again, and is then translated again right before.
            if pc == block.start {
                self.translated = None;
                self.places.insert(place, self.blocks.len());
                self.blocks.push(block);
            }
        }
        self.places.get(&place).copied()
    }
}

/// The hexadecimal number that a text begins with, and the rest.
fn hexadecimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    let mut rest = text;
    while let [digit, after @ ..] = rest
        && let Some(digit) = char::from(*digit).to_digit(16)
    {
        value = value << 4 | u64::from(digit);
        rest = after;
    }
    (rest.len() < text.len()).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
----------------
IN: _start
0x40200000:  aa1f03f8  mov      x24, xzr
0x40200004:  d5034fdf  msr      daifset, #0xf

Trace 0: 0x7f13c0000100 [0000000000104004/0000000040200000/00000121/ff020200] _start
----------------
IN: _start
0x40200008:  14000000  b        #0x40200008

Trace 0: 0x7f13c0000240 [0000000000104004/0000000040200008/00000121/ff020200] _start
Trace 0: 0x7f13c0000240 [0000000000104004/0000000040200008/00000121/ff020200] _start
Trace 0: 0x7f13c0000100 [0000000000104004/0000000040200000/00000121/ff020200] _start
Trace 0: 0x7f13c0000999 [0000000000104004/0000000040200000/00000121/ff020200] _start
IN: again
0x40200004:  d5034fdf  msr      daifset, #0xf
Trace 0: 0x7f13c0000100 [0000000000104004/0000000040200004/00000121/ff020200] _start
";

    #[test]
    fn every_execution_is_a_block_with_its_length() {
        let mut reader = Reader::default();
        let mut executed = Vec::new();
        for line in LOG.lines() {
            if let Some(number) = reader.line(line.as_bytes()) {
                let block = reader.block(number);
                executed.push((block.start & 0xff, block.instructions));
            }
        }
        // The one whose translation was not logged is left out.
        assert_eq!(executed, [(0, 2), (8, 1), (8, 1), (0, 2), (4, 1)]);
    }

    #[test]
    fn other_lines_are_no_blocks() {
        let mut reader = Reader::default();
        for line in [
            "",
            "Trace",
            "Trace 0: 0x",
            "Trace 0: 0x1 [/zz/]",
            "0x",
            "0xzz: a",
            "lull: x",
        ] {
            assert_eq!(reader.line(line.as_bytes()), None, "{line}");
        }
    }
}
