//! Passes arguments to a guest and takes its result, in the canonical ABI.
//!
//! wasmtime's own way to call a function whose types are known only at run time makes a value of 40 bytes of each byte
//! of a list. Here arguments are copied into the guest's memory as they were read, and a result is written as JSON
//! straight from there.
//!
//! Separate module because it uses `unsafe`: it implements traits with which wasmtime's derive macros make such
//! conversions for static types. They are hidden, so `Cargo.toml` pins wasmtime exactly. What wasmtime relies on:
//!
//! - `ComponentType::Lower` is a sequence of [`ValRaw`], without other bytes. It is copied to where the compiled function
//!   reads its parameters and writes its result.
//! - After `linear_lower_to_flat`, all of it is initialized. A core value here is an integer or a float, of which every bit
//!   pattern is valid: a wrong one is a wrong argument for the guest, not a dangling reference for the host.
//! - `linear_lift_from_flat` believes nothing that the guest returned.
//!
//! Memory of a guest is accessed in checked slices only, which are taken again after each call of the guest: its `realloc`
//! may move memory by growing it, and return any address.

use std::{mem::MaybeUninit, sync::Arc};

use wasmtime::{
    ValRaw, bail,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext},
        ComponentNamedList, ComponentType, Lift, Lower,
    },
    error::Context as _,
};

use super::{
    image::{BlockId, Target},
    read::ReadArguments,
    shape::{Kind, Shape, Types},
    write::{self, Written},
};

/// Maximum core values of the parameters of a function; beyond it, they are passed in memory.
const PARAMETERS_FLAT_MAX: usize = 16;

/// The arguments of a call, as wasmtime passes them on.
pub(super) struct Arguments {
    pub(super) types: Arc<Types>,
    pub(super) read: ReadArguments,
}

// SAFETY: `Lower` is an array of core values. It has as many as parameters may have at most: wasmtime passes it as a whole,
// and the function reads as many as it has parameters. `ABI` is used for a value within another one and for parameters
// that wasmtime itself puts into memory, which happens beyond this number only. `typecheck` may accept any type, since
// `linear_lower_to_flat` lowers by the shape that was read from the same component, whatever the type is.
#[allow(unsafe_code, reason = "an array of core values; see the top of this file")]
unsafe impl ComponentType for Arguments {
    type Lower = [ValRaw; PARAMETERS_FLAT_MAX];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    /// The types are compared when the arguments are passed, as this function knows no particular ones.
    fn typecheck(_ty: &InterfaceType, _types: &InstanceType<'_>) -> wasmtime::Result<()> {
        Ok(())
    }
}

// SAFETY: a marker, without requirements beyond those of `ComponentType`: the type it is lowered to is the tuple of the
// parameters.
#[allow(unsafe_code, reason = "a marker: the parameters are one tuple")]
unsafe impl ComponentNamedList for Arguments {}

// SAFETY: `dst` is written as a whole before `Ok` is returned: core values that the parameters do not need are zero. That
// also initializes the place of the result, which shares their memory. Nothing is written to memory but in checked slices.
#[allow(unsafe_code, reason = "sets every core value; see the top of this file")]
unsafe impl Lower for Arguments {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        let shape = &self.types.parameters;
        let abi = cx.types.canonical_abi(&ty);
        if (abi.size32 as usize, abi.align32 as usize) != (shape.size, shape.align) {
            bail!("the function has other parameters than when it was loaded");
        }
        let mut values = [0; PARAMETERS_FLAT_MAX];
        if shape.flat > PARAMETERS_FLAT_MAX {
            let (pointer, _) = self.lower_block(cx, self.read.root)?;
            values[0] = pointer.into();
        } else {
            let image = &self.read.image;
            let root = image.block(self.read.root);
            let mut bytes = image.bytes(root).to_vec();
            for link in image.links(root) {
                let (pointer, length) = self.lower_target(cx, link.to)?;
                put_pair(&mut bytes, link.at as usize, pointer, length)?;
            }
            flatten(shape, &bytes, &mut values.iter_mut()).context("too few bytes")?;
        }
        dst.write(values.map(ValRaw::u64));
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        _cx: &mut LowerContext<'_, T>,
        _ty: InterfaceType,
        _offset: usize,
    ) -> wasmtime::Result<()> {
        bail!("arguments are not part of another value")
    }
}

impl Arguments {
    /// Copies a block into the guest's memory, and returns its address and the number of its items.
    fn lower_block<T>(&self, cx: &mut LowerContext<'_, T>, id: BlockId) -> wasmtime::Result<(u32, u32)> {
        let image = &self.read.image;
        let block = image.block(id);
        let bytes = image.bytes(block);
        // wasmtime checks that the address is aligned and that the bytes lie in memory. Two blocks may overlap: that is
        // a matter of the guest.
        let start = cx.realloc(0, 0, block.align, bytes.len())?;
        let memory = cx.as_slice_mut().get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len()));
        memory.context("beyond the end of memory")?.copy_from_slice(bytes);
        for link in image.links(block) {
            let (pointer, length) = self.lower_target(cx, link.to)?;
            put_pair(cx.as_slice_mut(), start + link.at as usize, pointer, length)?;
        }
        Ok((u32::try_from(start)?, block.items))
    }

    fn lower_target<T>(&self, cx: &mut LowerContext<'_, T>, target: Target) -> wasmtime::Result<(u32, u32)> {
        match target {
            Target::Block(id) => self.lower_block(cx, id),
            Target::Text { start, size } => {
                let mut pair = MaybeUninit::new([ValRaw::u64(0); 2]);
                let text = self.read.image.text(start, size);
                <str as Lower>::linear_lower_to_flat(text, cx, InterfaceType::String, &mut pair)?;
                // SAFETY: `MaybeUninit::new` initialized both core values, and nothing makes them uninitialized again.
                #[allow(unsafe_code, reason = "it was initialized, and is only written to")]
                let [pointer, length] = unsafe { pair.assume_init() };
                Ok((pointer.get_u32(), length.get_u32()))
            }
        }
    }
}

fn put_pair(memory: &mut [u8], at: usize, pointer: u32, length: u32) -> wasmtime::Result<()> {
    let pair = memory.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>()).context("beyond the end of memory")?;
    pair[..4].copy_from_slice(&pointer.to_le_bytes());
    pair[4..].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Sets the core values of a value in memory. None if memory or core values are too few, which are those of its type.
///
/// The cases of a variant share core values of the widest of their types. All conversions to it extend with zeros, and
/// so a core value is one number here, whatever its type is.
fn flatten<'a>(shape: &Shape, bytes: &[u8], values: &mut impl Iterator<Item = &'a mut u64>) -> Option<()> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes).map(u64::from);
    match &shape.kind {
        Kind::Bool => *values.next()? = (*bytes.first()?).into(),
        Kind::Integer(integer) => {
            let number = number(bytes.get(..integer.bytes)?);
            let unused = 64 - 8 * integer.bytes;
            *values.next()? = if integer.signed && integer.bytes < 4 {
                u64::from((((number << unused).cast_signed() >> unused).cast_unsigned() & 0xffff_ffff) as u32)
            } else {
                number
            };
        }
        Kind::Float32 | Kind::Char => *values.next()? = word(0)?,
        Kind::Float64 => *values.next()? = number(bytes.get(..8)?),
        Kind::Text | Kind::Bytes | Kind::List(_) | Kind::Map(_) => {
            *values.next()? = word(0)?;
            *values.next()? = word(4)?;
        }
        Kind::Array(item, length) => {
            for index in 0..*length {
                flatten(item, bytes.get(index * item.size..)?, values)?;
            }
        }
        Kind::Tuple(fields) => {
            for field in fields {
                flatten(&field.shape, bytes.get(field.at..)?, values)?;
            }
        }
        Kind::Record(record) => {
            for field in &record.fields {
                flatten(&field.shape, bytes.get(field.at..)?, values)?;
            }
        }
        Kind::Variant(cases) | Kind::Option(cases) | Kind::Result(cases) => {
            let case = number(bytes.get(..cases.tag)?);
            *values.next()? = case;
            let payload = cases.payloads.get(usize::try_from(case).ok()?)?.as_ref();
            if let Some(payload) = payload {
                flatten(payload, bytes.get(cases.payload_at..)?, values)?;
            }
            let used = 1 + payload.map_or(0, |payload| payload.flat);
            for _ in used..shape.flat {
                *values.next()? = 0;
            }
        }
        Kind::Flags(_) if shape.size <= 4 => *values.next()? = number(bytes.get(..shape.size)?),
        Kind::Flags(_) => {
            for index in 0..shape.flat {
                *values.next()? = word(4 * index)?;
            }
        }
    }
    Some(())
}

/// Reads up to eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// The result of a call, as wasmtime takes it.
pub(super) struct Returned(pub(super) Written);

// SAFETY: `Lower` is one core value, the most that a lifted function returns: its result, or the address of that. `ABI` is
// used for a value within another one only. `typecheck` may accept any type, since the value is read by the type that
// wasmtime passes with it.
#[allow(unsafe_code, reason = "one core value; see the top of this file")]
unsafe impl ComponentType for Returned {
    type Lower = [ValRaw; 1];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    /// It takes a result of any type.
    fn typecheck(_ty: &InterfaceType, _types: &InstanceType<'_>) -> wasmtime::Result<()> {
        Ok(())
    }
}

// SAFETY: a marker, as for the parameters.
#[allow(unsafe_code, reason = "a marker: the results are one tuple")]
unsafe impl ComponentNamedList for Returned {}

// SAFETY: `src` is initialized: the function wrote it, or, if that returns less, its parameters did. Of a result of 32 bits
// the upper ones are what was there before, and `write::result` ignores them. Addresses, lengths, cases, characters and
// strings in it and in memory are checked before they are used. No guest runs meanwhile, so memory does not move.
#[allow(unsafe_code, reason = "reads one core value; see the top of this file")]
unsafe impl Lift for Returned {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Self::Lower) -> wasmtime::Result<Self> {
        write::result(cx, ty, || src[0].get_u64()).map(Self)
    }

    fn linear_lift_from_memory(_cx: &mut LiftContext<'_>, _ty: InterfaceType, _bytes: &[u8]) -> wasmtime::Result<Self> {
        bail!("a result is not part of another value")
    }
}
