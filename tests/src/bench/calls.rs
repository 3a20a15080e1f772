//! Who called whom, from the sequence of executed blocks: how many instructions a function executed
//! itself, and how many with all that it called.

use super::exec_log::Block;
use object::{Object, ObjectSegment};

/// The instructions of an image.
pub struct Code {
    /// First address and bytes of each segment.
    segments: Vec<(u64, Vec<u8>)>,
}

impl Code {
    /// Those of an ELF file; none if it is none.
    pub fn read(bytes: &[u8]) -> Self {
        let segments = object::File::parse(bytes).map_or_else(
            |_| Vec::new(),
            |file| {
                file.segments()
                    .filter_map(|it| Some((it.address(), it.data().ok()?.to_owned())))
                    .collect()
            },
        );
        Self { segments }
    }

    /// The instruction at an address.
    fn at(&self, address: u64) -> Option<u32> {
        self.segments.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            let word = bytes.get(offset..offset + 4)?;
            Some(u32::from_le_bytes(word.try_into().ok()?))
        })
    }
}

/// How a block ends (DDI 0487, C4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// BL or BLR: the return address is behind it.
    Call,
    /// RET.
    Return,
    /// Anything else.
    Other,
}

impl End {
    fn of(instruction: u32) -> Self {
        if instruction & 0xfc00_0000 == 0x9400_0000 || instruction & 0xffff_fc1f == 0xd63f_0000 {
            Self::Call
        } else if instruction & 0xffff_fc1f == 0xd65f_0000 {
            Self::Return
        } else {
            Self::Other
        }
    }
}

/// A function that was called and has not come back.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Its number.
    function: usize,
    /// Where it will return to; `None` for the one that was there at the beginning.
    back: Option<u64>,
}

/// What one function did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Instructions of its own.
    pub own: u64,
    /// With those of the functions that it called.
    pub all: u64,
    /// How often it was called.
    pub calls: u64,
}

/// The books.
pub struct Calls<F> {
    code: Code,
    /// The number of the function that an address is in.
    function_at: F,
    stack: Vec<Frame>,
    last: Option<(Block, End)>,
    /// Of each block: its function, and how it ends.
    known: Vec<(usize, End)>,
    /// By function.
    sums: Vec<Sum>,
}

impl<F: FnMut(u64) -> usize> Calls<F> {
    /// Empty books.
    pub fn new(code: Code, function_at: F) -> Self {
        Self {
            code,
            function_at,
            stack: Vec::new(),
            last: None,
            known: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// What each function did, by its number.
    pub fn sums(&self) -> &[Sum] {
        &self.sums
    }

    fn sum(&mut self, function: usize) -> &mut Sum {
        if self.sums.len() <= function {
            self.sums.resize(function + 1, Sum::default());
        }
        &mut self.sums[function]
    }

    /// Takes the next block that was executed. Blocks are numbered from 0 on as they come.
    pub fn executed(&mut self, number: usize, block: Block) {
        while self.known.len() <= number {
            let last = block.start + 4 * (block.instructions - 1);
            let end = self.code.at(last).map_or(End::Other, End::of);
            self.known.push(((self.function_at)(block.start), end));
        }
        let (function, end) = self.known[number];
        self.move_to(block.start, function);
        let own = block.instructions;
        self.sum(function).own += own;
        // A function that is there twice counts once.
        for index in 0..self.stack.len() {
            let frame = self.stack[index];
            let again = self.stack[..index]
                .iter()
                .any(|it| it.function == frame.function);
            if !again {
                self.sum(frame.function).all += own;
            }
        }
        self.last = Some((block, end));
    }

    /// Makes `function`, which goes on at `pc`, the top of the stack.
    fn move_to(&mut self, pc: u64, function: usize) {
        match self.last {
            Some((block, End::Call)) => {
                let back = block.start + 4 * block.instructions;
                if pc != back {
                    self.stack.push(Frame {
                        function,
                        back: Some(back),
                    });
                    self.sum(function).calls += 1;
                    return;
                }
            }
            Some((_, End::Return)) => {
                // With what was above it; nothing where it returns further than the books go back.
                let at = self.stack.iter().rposition(|it| it.back == Some(pc));
                self.stack.truncate(at.unwrap_or(0));
            }
            _ => {}
        }
        match self.stack.last_mut() {
            Some(top) if top.function == function => {}
            // A branch into another function, which returns in place of the first.
            Some(top) => {
                top.function = function;
                self.sum(function).calls += 1;
            }
            None => self.stack.push(Frame {
                function,
                back: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BL, RET, NOP.
    const WORDS: [u32; 3] = [0x9400_0001, 0xd65f_03c0, 0xd503_201f];
    const CALL: usize = 0;
    const RETURN: usize = 1;
    const OTHER: usize = 2;

    /// Functions are 0x100 bytes long; a block of n instructions ends as it is told to.
    fn books(blocks: &[(u64, u64, usize)]) -> Vec<Sum> {
        let mut bytes = vec![0; 0x400];
        for (start, instructions, end) in blocks {
            let last = (start + 4 * (instructions - 1)) as usize;
            bytes[last..last + 4].copy_from_slice(&WORDS[*end].to_le_bytes());
        }
        let code = Code {
            segments: vec![(0, bytes)],
        };
        let mut calls = Calls::new(code, |address| (address >> 8) as usize);
        for (number, (start, instructions, _)) in blocks.iter().enumerate() {
            let block = Block {
                start: *start,
                instructions: *instructions,
            };
            calls.executed(number, block);
        }
        calls.sums().to_owned()
    }

    fn sum(own: u64, all: u64, calls: u64) -> Sum {
        Sum { own, all, calls }
    }

    #[test]
    fn a_caller_has_what_it_called() {
        // 0 calls 1, which calls 2; both return.
        let sums = books(&[
            (0x000, 2, CALL),
            (0x100, 3, CALL),
            (0x200, 5, RETURN),
            (0x10c, 7, RETURN),
            (0x008, 11, OTHER),
        ]);
        assert_eq!(sums, [sum(13, 28, 0), sum(10, 15, 1), sum(5, 5, 1)]);
    }

    #[test]
    fn a_function_that_was_branched_to_returns_for_the_one_that_was_called() {
        // 0 calls 1, which goes on as 2, which returns to 0.
        let sums = books(&[
            (0x000, 1, CALL),
            (0x100, 2, OTHER),
            (0x200, 4, RETURN),
            (0x004, 8, CALL),
            (0x140, 2, RETURN),
        ]);
        assert_eq!(sums, [sum(9, 17, 0), sum(4, 4, 2), sum(4, 4, 1)]);
    }

    #[test]
    fn a_function_that_calls_itself_counts_once() {
        let sums = books(&[
            (0x000, 1, CALL),
            (0x100, 2, CALL),
            (0x140, 4, RETURN),
            (0x108, 8, RETURN),
            (0x004, 16, OTHER),
        ]);
        assert_eq!(sums, [sum(17, 31, 0), sum(14, 14, 2)]);
    }

    #[test]
    fn a_return_beyond_the_beginning_begins_anew() {
        let sums = books(&[(0x100, 1, RETURN), (0x000, 2, CALL), (0x100, 4, RETURN)]);
        assert_eq!(sums, [sum(2, 6, 0), sum(5, 5, 1)]);
    }
}
