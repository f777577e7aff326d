import { fromPeft, loadPeft, readPeftConfig } from '@weftjs/lora'
import { attach, loadNetwork, sitesOf } from '@weftjs/model'
import type { Config } from '@weftjs/spec'
import { rng, tensor, wasm } from '@weftjs/tensor'
import { blobSink, type Folder, fromBytes } from '@weftjs/tensor/checkpoint'
import { fixtureFolder, fixtureTensors } from '@weftjs/testkit/fixtures'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { ggufAdapter, type LoraModule } from '../src/gguf/adapter.ts'
import { ggufAdapterFolder } from '../src/gguf/adapter-in.ts'
import { peftModules } from '../src/gguf/peft-modules.ts'
import { type Gguf, openGguf } from '../src/gguf/reader.ts'
import { type GgufFile, writeGguf } from '../src/gguf/writer.ts'

beforeAll(async () => {
  await wasm()
})

const written = async (file: GgufFile): Promise<Uint8Array> => {
  const sink = blobSink()
  await writeGguf(sink, file)
  return new Uint8Array(await sink.blob().arrayBuffer())
}
const configOf = async (model: string): Promise<Config> =>
  JSON.parse(await fixtureFolder(`models/${model}`).text('config.json')) as Config

/** the model that an adapter is for */
const baseOf = async (name: string): Promise<string> =>
  String(
    (JSON.parse(await fixtureFolder(`peft/${name}`).text('adapter_config.json')) as Config)['base_model_name_or_path'],
  )

/** logits of a model with an adapter, at the inputs of its reference */
const logits = async (model: string, folder: Folder): Promise<Float32Array> => {
  const network = await loadNetwork(fixtureFolder(`models/${model}`))
  const config = await readPeftConfig(folder)
  const start = fromPeft(config, network, sitesOf(network))
  const tuned = attach(start.network, start.attachments, rng(1), start.options)
  const { params } = await loadPeft(folder, tuned)
  const reference = await fixtureTensors(`models/${model}/reference.safetensors`)
  const ids = tensor(await reference.ints('input_ids'), reference.entry('input_ids').shape as [number, number], 'int32')
  return tuned.forward(params, { ids }).logits.dataSync() as Float32Array
}

const exported = async (name: string): Promise<Uint8Array> => {
  const { modules, checkpoint, ...rest } = await peftModules(fixtureFolder(`peft/${name}`))
  const config = await configOf(await baseOf(name))
  const bytes = await written(ggufAdapter({ config, modules, name, ...rest }))
  await checkpoint.close()
  return bytes
}

describe('a LoRA of PEFT', () => {
  it.each(['lora-qv', 'lora-all-linear-rslora', 'lora-patterns', 'rslora-patterns', 'lora-embedding', 'alora'])(
    '%s computes the same after it was a GGUF file',
    async (name) => {
      const bytes = await exported(name)
      const base = await baseOf(name)
      const back = await ggufAdapterFolder(fromBytes(bytes, 'x.gguf'), { config: await configOf(base) })
      const [got, want] = [await logits(base, back), await logits(base, fixtureFolder(`peft/${name}`))]
      const worst = want.reduce((m, v, i) => Math.max(m, Math.abs(v - got[i]!)), 0)
      expect(worst).toBeLessThan(2e-5)
    },
  )

  it('comes back with the very numbers that it had, and goes out again as the same file', async () => {
    const bytes = await exported('lora-qv')
    const back = await ggufAdapterFolder(fromBytes(bytes, 'x.gguf'))
    const stored = await fixtureTensors('peft/lora-qv/adapter_model.safetensors')
    const { modules, checkpoint, base } = await peftModules(back)
    expect([...checkpoint.names].sort()).toEqual([...stored.names].sort())
    for (const name of stored.names) expect(await checkpoint.floats(name)).toEqual(await stored.floats(name))
    expect(base).toBe('llama3')
    const config = await configOf('llama3')
    expect(await written(ggufAdapter({ config, modules, base: 'llama3', name: 'lora-qv' }))).toEqual(bytes)
  })

  it('has the names, the shapes and the order of rows that llama.cpp reads', async () => {
    const file = await openGguf(fromBytes(await exported('lora-qv')))
    const text = (of: Gguf, key: string): unknown => of.metadata.get(key)?.value
    expect(text(file, 'general.type')).toBe('adapter')
    expect(text(file, 'adapter.type')).toBe('lora')
    expect(text(file, 'general.architecture')).toBe('llama')
    const peft = JSON.parse(await fixtureFolder('peft/lora-qv').text('adapter_config.json')) as Config
    expect(text(file, 'adapter.lora.alpha')).toBe(peft['lora_alpha'])
    const r = peft['r'] as number
    expect(file.tensors.get('blk.0.attn_q.weight.lora_a')).toMatchObject({ shape: [r, 48] })
    expect(file.tensors.get('blk.0.attn_q.weight.lora_b')).toMatchObject({ shape: [48, r] })
    expect(file.tensors.get('blk.1.attn_v.weight.lora_b')).toMatchObject({ shape: [24, r] })
    const stored = await fixtureTensors('peft/lora-qv/adapter_model.safetensors')
    const b = await stored.floats('base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight')
    const found = new Float32Array((await file.read('blk.0.attn_q.weight.lora_b')).slice().buffer)
    // heads of 12: rows 0 and 6 rotate together, and are neighbours in ggml's order
    const order = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    for (let i = 0; i < 48; i++) {
      const from = 12 * Math.floor(i / 12) + order[i % 12]!
      expect([...found.subarray(i * r, (i + 1) * r)], `row ${i}`).toEqual([...b.subarray(from * r, (from + 1) * r)])
    }
  })

  it.each([
    ['dora', /use_dora: llama.cpp does not compute it; merge/],
    ['ia3', /is "IA3", and llama.cpp knows LoRA alone/],
    ['lora-modules-to-save', /is no part of a LoRA/],
    ['lora-bias-all', /is no part of a LoRA/],
    ['lora-biased-lora', /lora_bias/],
    ['pissa', /init_lora_weights "pissa": its numbers are for a base of its own/],
    ['kasa', /kasa_config/],
  ])('%s is refused', async (name, message) => {
    await expect(peftModules(fixtureFolder(`peft/${name}`))).rejects.toThrow(message)
  })
})

describe('a GGUF LoRA', () => {
  const module = (change: Partial<LoraModule> = {}): LoraModule => ({
    module: 'model.layers.0.mlp.up_proj',
    rank: 2,
    a: new Float32Array(96).fill(1),
    b: new Float32Array(128).fill(1),
    in: 48,
    out: 64,
    scale: 2,
    ...change,
  })

  it('has one alpha; where modules differ, B takes the difference', async () => {
    const config = await configOf('llama3')
    const modules = [module(), module({ module: 'model.layers.1.mlp.up_proj', scale: 6 })]
    const file = await openGguf(fromBytes(await written(ggufAdapter({ config, modules }))))
    expect(file.metadata.get('adapter.lora.alpha')?.value).toBe(4)
    const b = async (i: number): Promise<number> =>
      new Float32Array((await file.read(`blk.${i}.ffn_up.weight.lora_b`)).slice().buffer)[0]!
    expect([await b(0), await b(1)]).toEqual([1, 3])
  })

  it('is refused for modules that llama.cpp has not, and for numbers that do not fit', async () => {
    const config = await configOf('llama3')
    expect(() => ggufAdapter({ config, modules: [] })).toThrow(/at least one module/)
    expect(() => ggufAdapter({ config, modules: [module({ module: 'model.layers.0.mlp.router' })] })).toThrow(
      /"model.layers.0.mlp.router": llama.cpp adapts no such module in llama/,
    )
    const short = ggufAdapter({ config, modules: [module({ a: new Float32Array(95) })] })
    await expect(written(short)).rejects.toThrow(/has 95 numbers where rank 2 needs 96/)
  })

  /** as llama.cpp's converter writes it, without what only ours has */
  const converted = async (name: string, change: Partial<GgufFile> = {}): Promise<Uint8Array> => {
    const { modules, checkpoint } = await peftModules(fixtureFolder(`peft/${name}`))
    const { metadata, tensors } = ggufAdapter({ config: await configOf(await baseOf(name)), modules })
    const kept = [...metadata].filter(([key]) => !key.startsWith('llama.'))
    const bytes = await written({ metadata: new Map(kept), tensors, ...change })
    await checkpoint.close()
    return bytes
  }

  it('is no model, and a model is none; without the sizes of heads rows cannot be put in order', async () => {
    const { ggufFolder } = await import('../src/gguf/folder.ts')
    const bytes = await converted('lora-qv')
    await expect(ggufFolder(fromBytes(bytes))).rejects.toThrow(/the file is an adapter/)
    await expect(ggufAdapterFolder(fromBytes(bytes))).rejects.toThrow(/pass its config.json as 'config'/)
    const config = { ...(await configOf('llama3')), num_attention_heads: 5 }
    await expect(ggufAdapterFolder(fromBytes(bytes), { config })).rejects.toThrow(/not 5 heads/)
    const model: GgufFile = {
      metadata: new Map([['general.architecture', { type: 'string', value: 'llama' }]]),
      tensors: [],
    }
    await expect(ggufAdapterFolder(fromBytes(await written(model)))).rejects.toThrow(/is no LoRA/)
  })

  it('says its heads, and is refused for a model of others or of another family', async () => {
    const bytes = await exported('lora-qv')
    const config = await configOf('llama3')
    await expect(
      ggufAdapterFolder(fromBytes(bytes), { config: { ...config, num_attention_heads: 5 } }),
    ).rejects.toThrow(/for 4 heads and 2 of keys, and the model has 5 and 2; name the model/)
    await expect(ggufAdapterFolder(fromBytes(bytes), { config: await configOf('qwen2') })).rejects.toThrow(
      /the adapter is for llama, and the model is "qwen2"/,
    )
  })

  it('of a model with experts is read without the model', async () => {
    const config = await configOf('qwen2_moe')
    const modules = [module({ module: 'model.layers.0.mlp.gate', out: 8, b: new Float32Array(16).fill(2) })]
    const file = ggufAdapter({ config, modules, base: 'org/some-moe' })
    expect(file.tensors.map((t) => t.name)).toContain('blk.0.ffn_gate_inp.weight.lora_a')
    const { modules: back, base } = await peftModules(await ggufAdapterFolder(fromBytes(await written(file))))
    expect(back.map((m) => m.module)).toEqual(['model.layers.0.mlp.gate'])
    expect(base).toBe('org/some-moe')
  })

  it('may be in blocks, as llama.cpp writes it with --outtype q8_0', async () => {
    const [codes, d] = [Int8Array.from({ length: 32 }, (_, i) => 4 * i - 60), new Uint8Array([0, 0x38])] // 0.5
    const block = Uint8Array.from([...d, ...new Uint8Array(codes.buffer)])
    const up = 'blk.0.ffn_up.weight'
    const bytes = await converted('lora-qv', {
      tensors: [
        { name: `${up}.lora_a`, type: 'Q8_0', shape: [1, 32], data: block },
        { name: `${up}.lora_b`, type: 'F32', shape: [2, 1], data: new Uint8Array(8) },
      ],
    })
    const { modules } = await peftModules(await ggufAdapterFolder(fromBytes(bytes)))
    const { a } = modules[0]!
    expect([...(await (a as () => Promise<Float32Array>)())]).toEqual([...codes].map((c) => c / 2))
  })

  it('of a scale of 0 adds nothing, though an alpha of 0 would be a scale of 1', async () => {
    const config = await configOf('llama3')
    const file = ggufAdapter({ config, modules: [module({ scale: 0 })] })
    expect(file.metadata.get('adapter.lora.alpha')?.value).toBe(1)
    const { modules } = await peftModules(await ggufAdapterFolder(fromBytes(await written(file))))
    expect(await (modules[0]!.b as () => Promise<Float32Array>)()).toEqual(new Float32Array(128))
  })

  it('is refused where llama.cpp would stop at it: the table of a model whose head it is, and the head', async () => {
    const config = { ...(await configOf('llama3')), tie_word_embeddings: true }
    for (const name of ['model.embed_tokens', 'lm_head'])
      expect(() => ggufAdapter({ config, modules: [module({ module: name })] })).toThrow(
        new RegExp(`"${name}": the embedding is the head as well`),
      )
  })

  it('is refused for numbers that its type cannot hold, by their place', async () => {
    const config = await configOf('llama3')
    const b = new Float32Array(128).fill(1).fill(70_000, 7, 8)
    const half = ggufAdapter({ config, modules: [module({ b })], type: 'F16' })
    await expect(written(half)).rejects.toThrow(/up_proj": number 7 of 128 is 70000, which F16 cannot hold/)
    const odd = ggufAdapter({ config, modules: [module({ a: new Float32Array(96).fill(Number.NaN, 9) })] })
    await expect(written(odd)).rejects.toThrow(/number 9 of 96 is NaN/)
  })

  it('cut anywhere, or with any bytes changed, is refused by the file or read within it', async () => {
    const bytes = await converted('lora-qv')
    const config = await configOf('llama3')
    const all = async (data: Uint8Array): Promise<void> => {
      try {
        const { modules } = await peftModules(await ggufAdapterFolder(fromBytes(data, 'x.gguf'), { config }))
        for (const m of modules)
          for (const [v, n] of [
            [m.a, m.rank * m.in],
            [m.b, m.out * m.rank],
          ] as const)
            expect(await (v as () => Promise<Float32Array>)()).toHaveLength(n)
      } catch (error) {
        expect((error as Error).name, (error as Error).stack ?? '').toBe('CheckpointError')
      }
    }
    for (let n = 0; n < bytes.length; n += 97) await all(bytes.slice(0, n))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(1100), fc.oneof(fc.constantFrom(0, 1, 2, 8, 127, 255), fc.nat(255))), {
          minLength: 1,
          maxLength: 5,
        }),
        async (changes) => {
          const copy = bytes.slice()
          for (const [at, value] of changes) copy[at] = value
          await all(copy)
        },
      ),
      { numRuns: 400 },
    )
  })
})
