// Train a dense network on prepared matrices, keep it as browsers load it, and predict with what
// was kept. `node train.mjs FOLDER PACKAGES`: FOLDER holds spec.json, the matrices (float32, little
// endian), preprocessing.json and held_out.ndjson; PACKAGES has TensorFlow.js in node_modules.
// Reports to the file in MCP_HUB_EVENTS.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'
import { outputs as readOutputs, prepare } from './prepare.mjs'

const ROWS_AT_ONCE = 1000
const [folder, packages] = process.argv.slice(2)
const at = (name) => path.join(folder, name)
const readJson = (name) => JSON.parse(fs.readFileSync(at(name), 'utf8'))
const spec = readJson('spec.json')

// TensorFlow.js shuffles, and seeds its initializers and dropout, by Math.random.
Math.random = seeded(spec.seed)
const require = createRequire(pathToFileURL(path.join(packages, 'package.json')))
const tf = require('@tensorflow/tfjs')
require('@tensorflow/tfjs-backend-wasm')

tf.enableProdMode()
await tf.setBackend('wasm')
await tf.ready()

const model = build()
const fitted = await fit(model)
if (fitted.diverged === null) {
  await keep(model)
  await predict()
}
fs.writeFileSync(at('fitted.json'), JSON.stringify(fitted))

function build() {
  const network = tf.sequential()
  const kernelRegularizer = spec.l2 ? tf.regularizers.l2({ l2: spec.l2 }) : undefined
  let inputShape = [spec.width]
  for (const units of spec.layers) {
    network.add(
      tf.layers.dense({
        units,
        activation: spec.activation,
        kernelInitializer: spec.activation === 'relu' ? 'heNormal' : 'glorotNormal',
        kernelRegularizer,
        inputShape,
      }),
    )
    inputShape = undefined
    if (spec.dropout) network.add(tf.layers.dropout({ rate: spec.dropout }))
  }
  network.add(
    tf.layers.dense({
      units: spec.classes || 1,
      activation: spec.classes ? 'softmax' : 'linear',
      kernelRegularizer,
      inputShape,
    }),
  )
  network.compile({
    optimizer: tf.train.adam(spec.learning_rate),
    loss: spec.classes ? 'categoricalCrossentropy' : 'meanSquaredError',
  })
  return network
}

// Fit until the loss on the rows set aside, or else on all, has not fallen for `patience` epochs,
// and go back to the weights of the best one.
async function fit(network) {
  const learned = matrices('fit', spec.fit_rows)
  const aside = spec.validation_rows ? matrices('validation', spec.validation_rows) : null
  const watched = aside ? 'val_loss' : 'loss'
  const result = { epochs: 0, best_epoch: 0, best_losses: {}, diverged: null, tfjs: tf.version.tfjs }
  let best = { loss: Infinity, weights: [] }
  await network.fit(learned.inputs, learned.targets, {
    epochs: spec.epochs,
    batchSize: spec.batch_size,
    validationData: aside ? [aside.inputs, aside.targets] : undefined,
    verbose: 0,
    yieldEvery: 'never',
    callbacks: {
      onEpochEnd: async (epoch, logs) => {
        result.epochs = epoch + 1
        const loss = logs[watched]
        if (!Number.isFinite(loss) || !Number.isFinite(logs.loss)) {
          result.diverged = epoch
          network.stopTraining = true
          return
        }
        const losses = { train_loss: logs.loss, ...(aside && { validation_loss: loss }) }
        for (const [key, value] of Object.entries(losses)) {
          report({ type: 'metric', key, value, step: epoch })
        }
        report({ type: 'progress', done: epoch + 1, total: spec.epochs + spec.later_steps })
        if (loss < best.loss) {
          tf.dispose(best.weights)
          best = { loss, weights: network.getWeights().map((weight) => weight.clone()) }
          result.best_epoch = epoch
          result.best_losses = losses
        } else if (epoch - result.best_epoch >= spec.patience) {
          network.stopTraining = true
        }
      },
    },
  })
  if (best.weights.length) network.setWeights(best.weights)
  return result
}

async function keep(network) {
  await network.save(
    tf.io.withSaveHandler(async (artifacts) => {
      const weights = Buffer.concat([artifacts.weightData].flat().map((part) => Buffer.from(part)))
      const described = {
        format: 'layers-model',
        generatedBy: `TensorFlow.js ${tf.version['tfjs-layers']}`,
        convertedBy: null,
        modelTopology: artifacts.modelTopology,
        weightsManifest: [{ paths: ['weights.bin'], weights: artifacts.weightSpecs }],
      }
      fs.writeFileSync(at('weights.bin'), weights)
      fs.writeFileSync(at('model.json'), JSON.stringify(described))
      return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } }
    }),
  )
}

// The kept model's answers to the raw rows held out, as a browser would get them.
async function predict() {
  const kept = await tf.loadLayersModel({
    load: async () => {
      const described = readJson('model.json')
      const weights = fs.readFileSync(at('weights.bin'))
      return {
        modelTopology: described.modelTopology,
        weightSpecs: described.weightsManifest[0].weights,
        weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
      }
    },
  })
  const preprocessing = readJson('preprocessing.json')
  const answer = (rows) => {
    const values = tf.tidy(() =>
      kept.predict(tf.tensor2d(prepare(preprocessing, rows), [rows.length, spec.width])).dataSync(),
    )
    fs.appendFileSync(at('predictions.bin'), Buffer.from(readOutputs(preprocessing, values).buffer))
  }
  let rows = []
  for await (const line of readline.createInterface(fs.createReadStream(at('held_out.ndjson')))) {
    rows.push(JSON.parse(line))
    if (rows.length === ROWS_AT_ONCE) {
      answer(rows)
      rows = []
    }
  }
  if (rows.length) answer(rows)
}

function matrices(name, rows) {
  const inputs = tf.tensor2d(floats(`${name}_inputs.bin`), [rows, spec.width])
  const targets = floats(`${name}_targets.bin`)
  if (!spec.classes) return { inputs, targets: tf.tensor2d(targets, [rows, 1]) }
  const codes = tf.tensor1d(Int32Array.from(targets), 'int32')
  return { inputs, targets: tf.oneHot(codes, spec.classes).toFloat() }
}

function floats(name) {
  const bytes = fs.readFileSync(at(name))
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
}

function report(event) {
  fs.appendFileSync(process.env.MCP_HUB_EVENTS, `${JSON.stringify(event)}\n`)
}

// mulberry32
function seeded(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
