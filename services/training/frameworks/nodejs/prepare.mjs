// From raw rows to what the network takes, and from its outputs to answers, by preprocessing.json.
// Runs in browsers and in Node; it needs nothing.
//
//   const model = await tf.loadLayersModel('model.json')
//   const x = tf.tensor2d(prepare(preprocessing, rows), [rows.length, preprocessing.width])
//   const answers = interpret(preprocessing, model.predict(x).dataSync())

// Rows of {column: value}, null where one is missing → Float32Array of rows × width.
export function prepare(preprocessing, rows) {
  const { width, inputs, numbers, categories, texts } = preprocessing
  const matrix = new Float32Array(rows.length * width)
  const kinds = new Map(inputs.map((input) => [input.name, input.kind]))
  const positions = categories.map(({ values }) => new Map(values.map((v, index) => [v, index])))
  const words = texts.length ? new RegExp(preprocessing.word_pattern, 'gu') : null
  rows.forEach((row, index) => {
    for (const { name } of inputs) {
      if (row[name] === undefined) throw new Error(`Row ${index} lacks the column ${name}.`)
    }
    let at = index * width
    if (numbers) at = addNumbers(numbers, kinds, row, matrix, at)
    categories.forEach(({ name, values }, number) => {
      const position = positions[number].get(row[name] === null ? '' : String(row[name]))
      if (position !== undefined) matrix[at + position] = 1
      at += values.length
    })
    for (const text of texts) {
      addWords(text, words, row[text.name] ?? '', matrix, at)
      at += text.idf.length
    }
  })
  return matrix
}

// The network's outputs → one answer a row: {prediction}, of classes with {probabilities}.
export function interpret(preprocessing, values) {
  const read = outputs(preprocessing, values)
  const { classes } = preprocessing
  if (!classes) return Array.from(read, (prediction) => ({ prediction }))
  const answers = []
  for (let start = 0; start < read.length; start += classes.length) {
    const probabilities = Array.from(read.subarray(start, start + classes.length))
    const best = probabilities.indexOf(Math.max(...probabilities))
    answers.push({ prediction: classes[best], probabilities })
  }
  return answers
}

// Probabilities as they are; numbers in the target's own unit.
export function outputs({ classes, shift, scale }, values) {
  return classes ? Float32Array.from(values) : Float32Array.from(values, (v) => v * scale + shift)
}

function addNumbers(numbers, kinds, row, matrix, start) {
  const { names, medians, kept, indicated, means, spreads } = numbers
  const values = names.flatMap((name) => partsOf(row[name], kinds.get(name)))
  const missing = values.map(Number.isNaN)
  const filled = values.map((value, column) => (missing[column] ? medians[column] : value))
  const features = [
    ...kept.map((column) => filled[column]),
    ...indicated.map((column) => Number(missing[column])),
  ]
  features.forEach((value, column) => {
    const centred = Math.fround(Math.fround(value) - Math.fround(means[column]))
    matrix[start + column] = centred / Math.fround(spreads[column])
  })
  return start + features.length
}

function partsOf(value, kind) {
  if (kind === 'datetime') return value === null ? Array(6).fill(NaN) : partsOfDate(value)
  return [value === null ? NaN : Number(value)]
}

// Year, month, day, weekday from 0 = Monday, hour, minute; in UTC where there is an offset.
function partsOfDate(text) {
  const form = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/
  const match = form.exec(text)
  const iso = text.length === 10 ? `${text}T00:00` : text.replace(' ', 'T')
  const moment = new Date(match && !match[1] ? `${iso}Z` : iso)
  if (!match || Number.isNaN(moment.getTime())) throw new Error(`${text} is no ISO 8601 date.`)
  return [
    moment.getUTCFullYear(),
    moment.getUTCMonth() + 1,
    moment.getUTCDate(),
    (moment.getUTCDay() + 6) % 7,
    moment.getUTCHours(),
    moment.getUTCMinutes(),
  ]
}

// TF-IDF of length 1.
function addWords({ positions, idf }, words, text, matrix, start) {
  const lower = text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
  const weights = new Map()
  for (const [word] of lower.matchAll(words)) {
    if (!Object.hasOwn(positions, word)) continue
    const position = positions[word]
    weights.set(position, (weights.get(position) ?? 0) + idf[position])
  }
  const length = Math.sqrt([...weights.values()].reduce((sum, weight) => sum + weight * weight, 0))
  for (const [position, weight] of weights) matrix[start + position] = weight / length
}
