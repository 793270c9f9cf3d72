// Answer rows as a page would: fetch the artifacts over HTTP, load the model, prepare, predict.
// `node browser.mjs FOLDER PACKAGES < rows.json`

import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, packages] = process.argv.slice(2)
const tf = createRequire(pathToFileURL(path.join(packages, 'package.json')))('@tensorflow/tfjs')
tf.enableProdMode()
const server = http.createServer((request, response) => {
  response.end(fs.readFileSync(path.join(folder, path.basename(request.url))))
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const url = `http://127.0.0.1:${server.address().port}`

const { prepare, interpret } = await import(pathToFileURL(path.join(folder, 'prepare.mjs')))
const preprocessing = await (await fetch(`${url}/preprocessing.json`)).json()
const model = await tf.loadLayersModel(`${url}/model.json`)
const rows = JSON.parse(fs.readFileSync(0, 'utf8'))
const x = tf.tensor2d(prepare(preprocessing, rows), [rows.length, preprocessing.width])
console.log(JSON.stringify(interpret(preprocessing, model.predict(x).dataSync())))
server.closeAllConnections()
server.close()
