//! Arguments as they are going to lie in a guest's memory, before there is a guest.
//!
//! The lists of all arguments share a few buffers, so that a value takes hardly more memory here than in the guest.

use std::mem;

/// Maximum size of the arguments of a call in this form, in bytes.
pub(super) const IMAGE_MAX: usize = 128 << 20;

/// A place that the guest's memory will need for arguments, and its content.
#[derive(Debug)]
pub(super) struct Block {
    start: u32,
    size: u32,
    links_start: u32,
    links: u32,
    /// Its alignment in bytes.
    pub(super) align: u32,
    /// Number of items of the list that it holds.
    pub(super) items: u32,
}

/// A pointer and a length that belong into a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Their offset in the block, in bytes.
    pub(super) at: u32,
    pub(super) to: Target,
}

/// What a link points to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Text { start: u32, size: u32 },
    Block(BlockId),
}

/// The number of a block in its image.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockId(u32);

/// Blocks that point to each other, without cycles.
#[derive(Debug, Default)]
pub(super) struct Image {
    blocks: Vec<Block>,
    bytes: Vec<u8>,
    links: Vec<Link>,
    text: String,
    /// Size so far, including that of unfinished blocks.
    used: usize,
    /// Buffers to use again.
    spare: Vec<Draft>,
}

/// A block that is not finished.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) bytes: Vec<u8>,
    links: Vec<Link>,
}

/// The arguments take too much memory.
#[derive(Debug)]
pub(super) struct Full;

impl Image {
    /// Starts a block.
    pub(super) fn draft(&mut self) -> Draft {
        self.spare.pop().unwrap_or_default()
    }

    /// Adds zeros to the end of a draft, and returns their offset.
    pub(super) fn grow(&mut self, draft: &mut Draft, size: usize) -> Result<usize, Full> {
        self.charge(size)?;
        let at = draft.bytes.len();
        draft.bytes.resize(at + size, 0);
        Ok(at)
    }

    /// Adds bytes to the end of a draft.
    pub(super) fn extend(&mut self, draft: &mut Draft, bytes: &[u8]) -> Result<(), Full> {
        self.charge(bytes.len())?;
        draft.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts a pointer to a string at this offset of a draft.
    pub(super) fn link_text(&mut self, draft: &mut Draft, at: usize, text: &str) -> Result<(), Full> {
        self.charge(text.len() + size_of::<Link>())?;
        let (start, size) = (number(self.text.len()), number(text.len()));
        self.text.push_str(text);
        draft.links.push(Link { at: number(at), to: Target::Text { start, size } });
        Ok(())
    }

    /// Finishes a block, and puts a pointer to it at this offset of another draft.
    pub(super) fn link_list(
        &mut self,
        draft: &mut Draft,
        at: usize,
        list: Draft,
        align: usize,
        items: usize,
    ) -> Result<(), Full> {
        self.charge(size_of::<Link>())?;
        let block = self.finish(list, align, items)?;
        draft.links.push(Link { at: number(at), to: Target::Block(block) });
        Ok(())
    }

    /// Finishes a block.
    pub(super) fn finish(&mut self, mut draft: Draft, align: usize, items: usize) -> Result<BlockId, Full> {
        self.charge(size_of::<Block>())?;
        let id = BlockId(number(self.blocks.len()));
        self.blocks.push(Block {
            start: number(self.bytes.len()),
            size: number(draft.bytes.len()),
            links_start: number(self.links.len()),
            links: number(draft.links.len()),
            align: number(align),
            items: number(items),
        });
        if self.bytes.is_empty() {
            mem::swap(&mut self.bytes, &mut draft.bytes);
        } else {
            self.bytes.extend_from_slice(&draft.bytes);
        }
        self.links.append(&mut draft.links);
        draft.bytes.clear();
        self.spare.push(draft);
        Ok(id)
    }

    /// A finished block.
    pub(super) fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    /// The content of a block, with zeros where its links belong.
    pub(super) fn bytes(&self, block: &Block) -> &[u8] {
        &self.bytes[block.start as usize..][..block.size as usize]
    }

    /// The links of a block, in ascending order.
    pub(super) fn links(&self, block: &Block) -> &[Link] {
        &self.links[block.links_start as usize..][..block.links as usize]
    }

    /// The string of a [`Target::Text`].
    pub(super) fn text(&self, start: u32, size: u32) -> &str {
        &self.text[start as usize..][..size as usize]
    }

    fn charge(&mut self, size: usize) -> Result<(), Full> {
        self.used = self.used.saturating_add(size);
        if self.used > IMAGE_MAX { Err(Full) } else { Ok(()) }
    }
}

/// Nothing in an image is larger than [`IMAGE_MAX`].
fn number(size: usize) -> u32 {
    u32::try_from(size).expect("an image is smaller than 4 GiB")
}
